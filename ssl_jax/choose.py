"""What a config leaves open, chosen from the images and the device, each with its reason.

A field whose value is None is open. What the user sets stays as it is, and what depends on it
follows: a larger view leads to a smaller batch. A run that goes on keeps what it began with.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from ssl_jax import data
from ssl_jax.data.survey import survey
from ssl_jax.errors import UserError
from ssl_jax.schedules import UNITS

SAMPLED = 256  # images whose size is looked at
GIB = 2**30
# Activations of a training step, bytes per pixel of a view, in the dtype that is chosen with it:
# from memory_analysis of compiled steps, rounded up.
BYTES_PER_PIXEL = {"resnet8": 150, "resnet18": 500, "resnet50": 1100}
# Images seen in a run: the quickstart's on a processor, at its 28 pixels; on an accelerator a
# hundred epochs of ImageNet.
SEEN_ON_CPU, SEEN = 180_000, 130_000_000


class Facts(NamedTuple):
  """What the choice depends on.

  Attributes:
    images: N.
    side: Median of their shorter sides, pixels.
    devices: Their number, over all hosts.
    accelerator: Whether they are more than processor cores.
    memory: Bytes of one of them.
    labelled: Whether the images have classes.
    tested: Whether the split that the config tests on exists.
  """

  images: int
  side: int
  devices: int
  accelerator: bool
  memory: int
  labelled: bool
  tested: bool


def settle(config: Mapping[str, Any], workdir: str) -> tuple[dict[str, Any], list[str]]:
  """Fills in what a config leaves open: (config, the reasons in lines).

  Raises:
    UserError: There are too few images to learn from, or the data cannot be opened.
  """
  before = epath.Path(workdir) / "config.json"
  if before.exists():
    try:
      values = json.loads(before.read_text())
    except ValueError:
      return dict(config), []  # the damage is named where the workdir is checked
    held_out = held_out_splits(config)
    kept = {} if values["test_split"] != held_out["test_split"] else held_out
    return _filled(config, values) | kept, []
  known = facts(config)
  values, reasons = choose(config, known)
  filled = _filled(config, values)
  if known.labelled and not known.tested:
    filled |= held_out_splits(config)
    reasons.append(f"there is no split {config['test_split']!r}: a tenth of "
                   f"{config['train_split']!r} is kept for the test")
  return filled, reasons


def held_out_splits(config: Mapping[str, Any]) -> dict[str, str]:
  """The train split in two parts; the order of a folder's files is random already."""
  split = config["train_split"]
  return {"train_split": f"{split}[:90%]", "test_split": f"{split}[90%:]"}


def facts(config: Mapping[str, Any]) -> Facts:
  """Looks at the images and at the devices."""
  import jax

  def opened(which):
    return data.open_source(config["data"], config[which], data_dir=config["data_dir"] or None)

  source = opened("train_split")
  tested = bool(source.class_names)
  if tested:
    try:
      opened("test_split")
    except UserError:
      tested = False
  sizes = survey(source, SAMPLED).size if source.image_shape is None else np.array(
      [source.image_shape])
  if not len(sizes):
    raise UserError(f"{config['data']}: none of the {SAMPLED} images looked at can be read; see "
                    f"python -m ssl_jax.data inspect {config['data']}")
  device = jax.devices()[0]
  accelerator = device.platform != "cpu"
  return Facts(images=len(source), side=int(np.median(sizes.min(1))), devices=jax.device_count(),
               accelerator=accelerator, memory=_memory(device), tested=tested,
               labelled=bool(source.class_names))


def _memory(device) -> int:
  stats = device.memory_stats() or {}
  return stats.get("bytes_limit", 8 * GIB)  # a processor does not tell: what a laptop can spare


def choose(config: Mapping[str, Any], known: Facts) -> tuple[dict[str, Any], list[str]]:
  """The values of what is open, in the shape of a config, and a line for each decision."""
  n, made, reasons = known.images, {}, []
  if n < 32:
    raise UserError(f"{config['data']} {config['train_split']} has {n} images; pretraining needs "
                    "at least 32, and learns little from less than a few hundred; add images")
  size = config["views"]["size"] or view_size(known)
  made["views"] = {"size": size}
  reasons.append(f"views of {size} px: the shorter side of an image is {known.side} px (median)"
                 + ("" if known.accelerator or known.side <= 64 else ", and a processor is slow"))

  name = config["model"]["name"] or network(n, size, known.accelerator)
  stem = "strided" if name == "resnet8" else "auto"
  made["model"] = {"name": name, "stem": stem, "width": 2.0 if name == "resnet8" else 1.0,
                   "dtype": "bfloat16" if known.accelerator else "float32"}
  reasons.append(f"{name}: {n:,} images on {'an accelerator' if known.accelerator else 'cores'}")

  batch = config["batch_size"] or batch_size(known, size, name)
  made["batch_size"] = batch
  reasons.append(f"batch {batch}: at most half of the images, and what {known.devices} x "
                 f"{known.memory / GIB:.0f} GiB hold of views of {size} px")

  if config["method"]["name"].startswith("moco") and not config["method"].get("queue"):
    queue = max(batch, min(65536, n // 2) // batch * batch)
    made["method"] = {"queue": queue}
    reasons.append(f"queue of {queue:,}: no more than half of the images, in whole batches")

  large = batch >= 1024
  made["optimizer"] = {"name": "lars_simclr" if large else "sgd",
                       "weight_decay": 1e-6 if large else 1e-4}
  made["schedule"] = {"base_lr": 0.3 if large else 0.1}
  reasons.append(f"{made['optimizer']['name']}, learning rate {made['schedule']['base_lr']} x "
                 f"{batch} / 256")

  if all(config[f"total_{unit}"] is None for unit in UNITS):
    least, most = (10, 800) if known.accelerator else (3, 400)
    seen = SEEN if known.accelerator else SEEN_ON_CPU * min(1.0, (28 / size) ** 2)
    epochs = float(np.clip(round(seen / n), least, most))
    made["total_epochs"] = epochs
    reasons.append(f"{epochs:.0f} epochs: {epochs * n:,.0f} images seen")
  return made, reasons


def view_size(known: Facts) -> int:
  """Small images whole; others at most at 224 pixels, on a processor at 64."""
  if known.side <= 64:
    return max(known.side, 16)
  if not known.accelerator:
    return 64
  return 224 if known.side >= 224 else known.side // 32 * 32


def network(images: int, size: int, accelerator: bool) -> str:
  """A network in proportion to the images."""
  if not accelerator:
    return "resnet8"
  return "resnet18" if images < 20_000 or size <= 64 else "resnet50"


def batch_size(known: Facts, size: int, name: str) -> int:
  """A power of two for each device: by memory, by the number of images, and by custom."""
  per_image = 2 * size**2 * BYTES_PER_PIXEL.get(name, BYTES_PER_PIXEL["resnet50"])
  fits = int(0.6 * known.memory / per_image)
  each = min(fits, known.images // (2 * known.devices), 512 if known.accelerator else 128,
             4096 // known.devices)
  return known.devices * 2 ** int(np.log2(max(each, 1)))


def _filled(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
  """The config with values where it holds None, group by group."""
  made = dict(config)
  for name, value in values.items():
    if isinstance(value, Mapping):
      made[name] = _filled(made.get(name) or {}, value)
    elif made.get(name) is None:
      made[name] = value
  return made
