"""Writes `composed/CONFIG/1.0.0` as a TFDS set of ArrayRecord, without TensorFlow."""

import dataclasses
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from PIL import Image

from ssl_jax.data.composed import plans, scenes
from ssl_jax.data.composed.parts import SPLITS, Parts, read_parts
from ssl_jax.errors import UserError

VERSION = "1.0.0"
NAME = "composed"
COMMAND = "python -m ssl_jax.data.composed"
ORIGINAL = "original"
_AT_ONCE = 64  # scenes in the making


@dataclasses.dataclass(frozen=True)
class Settings:
  """What decides every pixel of a set, beside the pictures that it is composed of.

  Attributes:
    size: Side of the images.
    train, validation, test: Numbers of images; each variant of the test images has as many.
    bias: Percent of the images whose background is of the class's own environment; the others
      have any. At 0 backgrounds say nothing of the class.
    objects: Most objects in a scene.
    seed: Of all draws.
  """

  size: int = 96
  train: int = 10_000
  validation: int = 1_000
  test: int = 2_000
  bias: int = 70
  objects: int = 1
  seed: int = 0

  @property
  def name(self) -> str:
    """The config's name in TFDS, such as `96px` or `48px_bias0_objects3`: what is not default."""
    changed = [f"{field.name}{getattr(self, field.name)}" for field in dataclasses.fields(self)[1:]
               if getattr(self, field.name) != field.default]
    return "_".join([f"{self.size}px", *changed])

  @classmethod
  def of_name(cls, name: str) -> "Settings":
    """The settings whose name it is. Raises a UserError if there are none."""
    terms = [re.fullmatch(r"(?:(\d+)(px)|([a-z]+)(\d+))", term) for term in name.split("_")]
    values = {t[3] or "size": int(t[4] or t[1]) for t in terms if t}
    known = {field.name for field in dataclasses.fields(cls)}
    if not all(terms) or not values.keys() <= known or cls(**values).name != name:
      raise UserError(f"tfds:{NAME} has no config {name!r}; write one like {cls().name} or "
                      f"{cls(size=48, bias=0, objects=3).name}, or run `{COMMAND} --help`")
    return cls(**values)

  def check(self) -> None:
    """Raises a UserError if a number makes no sense."""
    for name, least, most in (
        ("size", 16, 2048), ("train", 1, 10**7), ("validation", 1, 10**7), ("test", 1, 10**7),
        ("bias", 0, 100), ("objects", 1, 20), ("seed", 0, 2**32 - 1)):
      value = getattr(self, name)
      if not least <= value <= most:
        raise UserError(f"composed: {name} is {value}, must be from {least} to {most}")


def build(data_dir: str | os.PathLike, settings: Settings, objects: str | None = None,
          backgrounds: str | None = None) -> epath.Path:
  """Builds a set, about 500 images of 48 pixels a second and core.

  It is built beside its place and then moved, so that an interrupted build leaves nothing that
  looks whole. Record i of a split is a function of the settings, the split and i; record i of
  `test_mixed_same`, `test_mixed_rand`, `test_only_fg` and `test_only_bg` is the variant of record i
  of `test` (see `ssl_jax.data.composed.plans`).

  Args:
    data_dir: Where TFDS sets lie.
    settings: What to build.
    objects: A folder of cut-outs instead of Tux Paint's; see `parts.read_parts`.
    backgrounds: A folder of photographs instead of those of the packages. With folders of one's
      own, the config's name begins with `own_`.

  Returns:
    The folder of the set.

  Raises:
    UserError: It is there already, packages are missing, or the settings make no sense.
  """
  settings.check()
  config = settings.name if objects is None and backgrounds is None else f"own_{settings.name}"
  data_dir = epath.Path(os.path.expanduser(os.fspath(data_dir)))
  target = data_dir / NAME / config / VERSION
  if (target / "dataset_info.json").exists():
    raise UserError(f"{target} is built already; read it as tfds:{NAME}/{config}, or name another "
                    "folder with --out")
  classes, parts = read_parts(settings.size, objects, backgrounds)
  logging.info("preparing tfds:%s/%s under %s, once", NAME, config, data_dir)
  data_dir.mkdir(parents=True, exist_ok=True)
  scratch = tempfile.mkdtemp(prefix=f"{NAME}_", dir=data_dir)
  try:
    with tfds.core.registered.skip_registration():
      builder = _builder_class(settings, classes, parts)(
          data_dir=scratch, file_format="array_record",
          config=tfds.core.BuilderConfig(name=config, version=VERSION, description=str(settings)))
      builder.download_and_prepare()
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(builder.data_dir, target)
  finally:
    shutil.rmtree(scratch, ignore_errors=True)
  return target


def compose(settings: Settings, parts: Parts, split: str, variant: str, index: int
            ) -> tuple[plans.Plan, int]:
  """The plan of scene `index` of a split, and its label: classes take turns."""
  label = index % len(parts.objects)
  stream = [settings.seed, SPLITS.index(split), index]
  plan = plans.draw(np.random.default_rng(stream), parts, label, bias=settings.bias / 100,
                     most_objects=settings.objects)
  if variant != ORIGINAL:
    number = 1 + plans.VARIANTS.index(variant)
    plan = plans.variant(variant, np.random.default_rng([*stream, number]), plan, parts)
  return plan, label


def splits_of() -> dict[str, tuple[str, str]]:
  """The splits of a set: (the split whose pictures they are made of, the variant)."""
  return {split: (split, ORIGINAL) for split in SPLITS} | {
      f"test_{variant}": ("test", variant) for variant in plans.VARIANTS}


def _example(settings: Settings, parts: Parts, split: str, variant: str, index: int
             ) -> dict[str, Any]:
  plan, label = compose(settings, parts, split, variant, index)
  scene = scenes.render(plan, parts, settings.size)
  return {
      "image": _encoded(scene.image, "JPEG", quality=95, subsampling=0),
      "mask": _encoded(scene.mask, "PNG", compress_level=3),
      "instances": _encoded(scene.instances, "PNG", compress_level=3),
      "label": label,
      "objects": [{"bbox": tfds.features.BBox(*map(float, box)), "label": int(k), "object": name}
                  for box, k, name in zip(scene.boxes, scene.labels, scene.names)],
      "background": plans.background_of(plan.backdrop, parts),
      "environment": -1 if plan.backdrop is None else plan.backdrop.patch.environment,
  }


def _encoded(pixels: np.ndarray, kind: str, **options) -> io.BytesIO:
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, kind, **options)
  out.seek(0)
  return out


def _builder_class(settings: Settings, classes: tuple[str, ...], parts: dict[str, Parts]):
  """The builder's class, made inside `skip_registration`."""

  class Composed(tfds.core.GeneratorBasedBuilder):
    """Real photographic cut-outs on real photographs; GPL-2, not to be passed on."""

    name = NAME
    VERSION = tfds.core.Version(VERSION)

    def _info(self) -> tfds.core.DatasetInfo:
      features, side = tfds.features, settings.size
      return tfds.core.DatasetInfo(
          builder=self,
          features=features.FeaturesDict({
              "image": features.Image(shape=(side, side, 3), encoding_format="jpeg"),
              "mask": features.Image(shape=(side, side, 1), encoding_format="png"),
              "instances": features.Image(shape=(side, side, 1), encoding_format="png"),
              "label": features.ClassLabel(names=classes),
              "objects": features.Sequence({
                  "bbox": features.BBoxFeature(), "label": features.ClassLabel(names=classes),
                  "object": features.Text()}),
              "background": features.Text(),
              "environment": np.int32}),
          supervised_keys=("image", "label"), disable_shuffling=True)

    def _split_generators(self, dl_manager):
      del dl_manager
      return {name: self._generate_examples(*of) for name, of in splits_of().items()}

    def _generate_examples(self, split, variant) -> Iterator[tuple[int, dict]]:
      def make(index):
        return index, _example(settings, parts[split], split, variant, index)

      indices = iter(range(getattr(settings, split)))
      with ThreadPoolExecutor() as pool:
        while chunk := list(islice(indices, _AT_ONCE)):
          yield from pool.map(make, chunk)

  return Composed
