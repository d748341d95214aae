"""A frozen encoder that embeds sets of differently stored images."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from ssl_jax import build, data
from ssl_jax.assess import Examiner
from ssl_jax.evaluate.features import extract
from ssl_jax.sharding import replicate
from ssl_jax.suite_files import fingerprint

Features = dict[str, np.ndarray]  # features, label, index and, with several classes, targets


class Encoder:
  """A saved encoder that embeds images of any stored size."""

  def __init__(self, saved, preprocessing: Mapping[str, Any], batch_size: int):
    self.preprocessing = {k: v for k, v in preprocessing.items() if k != "canvas"}
    self.key = fingerprint(saved.variables, self.preprocessing)
    devices = len(jax.local_devices())
    self.batch_size = -(-batch_size // devices) * devices
    self._module = build.backbone(saved.meta["model"])
    self._variables = saved.variables
    self._examiners: dict[int, tuple[Examiner, Any]] = {}

  def canvas(self, source: data.Source) -> int:
    """The side that images of a source are stored at."""
    return build.canvas_for({"canvas": 0, "views": self.preprocessing}, source)

  def encode(self, batch, canvas: int):
    """Features of a host batch."""
    if canvas not in self._examiners:
      examiner = Examiner(self._module, self.preprocessing | {"canvas": canvas}, self.batch_size)
      self._examiners[canvas] = examiner, replicate(examiner.mesh, self._variables)
    examiner, variables = self._examiners[canvas]
    return examiner.encode(variables, batch)

  def features(self, source: data.Source, change: Callable = lambda batch: batch) -> Features:
    """Embeds a source after `change`; unreadable images are left out."""
    canvas, index = self.canvas(source), []

    def watched() -> Iterator[dict]:
      for batch in data.epoch(source, batch_size=self.batch_size, canvas=canvas):
        index.append(batch["index"][batch["valid"]])
        yield change(batch)

    features, label = extract(partial(self.encode, canvas=canvas), watched())
    return {"features": features, "label": label, "index": np.concatenate(index)}
