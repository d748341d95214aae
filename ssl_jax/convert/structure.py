"""What tensors a ResNet has, and which ResNet has these tensors.

A tensor is called by the path of its module and its kind: stage1_block2/conv3/kernel. The kinds are
kernel, of a convolution; scale, bias (parameters), mean and var (statistics), of a BatchNorm.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ssl_jax.errors import UserError
from ssl_jax.models import RESNETS, ResNet

Shape = tuple[int, ...]
NORM = ("scale", "bias", "mean", "var")
STATISTICS = ("mean", "var")
MOST_BLOCKS = 64  # in a stage; ResNet-200 has 36

# The modules of a block, in the order of their computation but the projection's first.
CONVS = {
    "basic": ("conv1", "conv2"),
    "bottleneck": ("conv1", "conv2", "conv3"),
    "selective": ("conv1", "spatial2/conv", "spatial2/hidden_conv", "spatial2/choice_conv",
                  "conv3")}


def norm_of(conv: str) -> str | None:
  """The norm behind a convolution; the last convolution of a selective kernel has none."""
  head, _, leaf = conv.rpartition("conv")
  return None if conv.endswith("choice_conv") else f"{head}norm{leaf}"


def options_of(model: Mapping[str, Any]) -> dict[str, Any]:
  """All attributes of the ResNet that a model group asks for, defaults included."""
  known = {name: field.default for name, field in ResNet.__dataclass_fields__.items()
           if name not in ("parent", "name", "blocks")}
  given = {k: v for k, v in model.items() if k in {*known, "blocks"}}
  return known | RESNETS[model["name"]] | given


def shapes(model: Mapping[str, Any]) -> dict[str, Shape]:
  """Every tensor of a model group's ResNet, with its shape."""
  found: dict[str, Shape] = {}
  for path, shape in _convs(options_of(model)):
    found[f"{path}/kernel"] = shape
    if norm_of(path):
      found |= {f"{norm_of(path)}/{kind}": shape[-1:] for kind in NORM}
  return found


def _convs(model: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
  """The convolutions and the shapes of their kernels, in the order of SimCLR's TensorFlow code."""
  width, channels = model["width"], 3
  stem = round(model["stem_width"] * width)
  # The kernels of models.resnet.STEMS.
  stems = {"imagenet": [(7, stem)], "deep": [(3, round(stem / 2))] * 2 + [(3, stem)]}
  rows = stems.get(model["stem"], [(3, stem)])
  for i, (kernel, out) in enumerate(rows, 1):
    yield f"stem_conv{i if len(rows) > 1 else ''}", (kernel, kernel, channels, out)
    channels = out
  for s, (count, inner, stride) in enumerate(
      zip(model["blocks"], model["widths"], model["strides"]), 1):
    inner = round(inner * width)
    outer = inner if model["block"] == "basic" else 4 * inner
    hidden = max(inner // 16, 32)  # SelectiveKernel's defaults
    for b in range(1, count + 1):
      block = f"stage{s}_block{b}"
      changes = channels != outer or (b == 1 and stride != 1)
      if b == 1 and (changes or model["shortcut"] == "every_stage"):
        yield f"{block}/projection_conv", (1, 1, channels, outer)
      if model["block"] == "basic":
        yield f"{block}/conv1", (3, 3, channels, inner)
        yield f"{block}/conv2", (3, 3, inner, inner)
      else:
        yield f"{block}/conv1", (1, 1, channels, inner)
        if model["block"] == "selective":
          yield f"{block}/spatial2/conv", (3, 3, inner, 2 * inner)
          yield f"{block}/spatial2/hidden_conv", (1, 1, inner, hidden)
          yield f"{block}/spatial2/choice_conv", (1, 1, hidden, 2 * inner)
        else:
          yield f"{block}/conv2", (3, 3, inner, inner)
        yield f"{block}/conv3", (1, 1, inner, outer)
      channels = outer


def infer(found: Mapping[str, Shape], where: str) -> dict[str, Any]:
  """The model group of the ResNet that has tensors of these shapes.

  A few missing or misshapen ones do no harm: whoever asks compares with `shapes` afterwards.

  Raises:
    UserError: They are of no ResNet.
  """
  blocks: dict[int, int] = {}
  for path in found:
    if match := re.match(r"stage(\d+)_block(\d+)/", path):
      stage, block = map(int, match.groups())
      blocks[stage] = max(blocks.get(stage, 0), block)
  stem = next((found[f"stem_conv{i}/kernel"] for i in ("", 3) if f"stem_conv{i}/kernel" in found),
              None)
  if not blocks or sorted(blocks) != list(range(1, len(blocks) + 1)) or stem is None:
    raise UserError(f"{where} holds {len(found)} tensors of a ResNet, but neither a stem nor whole "
                    "stages; only ResNets can be converted")
  ends = [path.split("/", 1)[1] for path in found if "_block" in path]
  kind = "basic"
  if any(end.startswith("spatial2") for end in ends):
    kind = "selective"
  elif any(end.startswith(("conv3", "norm3")) for end in ends):
    kind = "bottleneck"

  def out(*paths: str) -> int:
    return next((found[path][-1] for path in paths if path in found), 0)

  widths = [out(f"stage{s}_block1/conv1/kernel", f"stage{s}_block1/norm1/scale",
                f"stage{s}_block2/conv1/kernel") for s in sorted(blocks)]
  model = {"block": kind, "blocks": [blocks[s] for s in sorted(blocks)], "widths": widths,
           "strides": [1] + [2] * (len(blocks) - 1), "stem_width": stem[-1],
           "stem": "deep" if "stem_conv3/kernel" in found else
                   "imagenet" if stem[0] > 3 else "small",
           "projection": "pooled" if kind == "selective" else "strided"}
  expansion = 1 if kind == "basic" else 4
  if stem[-1] == expansion * widths[0] and "stage1_block1/projection_conv/kernel" in found:
    model["shortcut"] = "every_stage"
  return named(model)


def named(model: Mapping[str, Any]) -> dict[str, Any]:
  """A model group by attributes as a name, and what differs from that name's attributes."""
  model = dict(model)
  name = next((name for name, known in RESNETS.items()
               if all(_same(known.get(what), model[what]) for what in ("block", "blocks"))
               and known.get("stem", "imagenet") in (model["stem"], "imagenet")),
              "resnet50_sk" if model["block"] == "selective" else "resnet50")
  defaults = options_of({"name": name})
  group = {"name": name}
  factor = _factor(model, defaults)
  if factor:
    group["width"] = factor
    model = {k: v for k, v in model.items() if k not in ("widths", "stem_width")}
  group |= {k: v for k, v in model.items() if k == "stem" or not _same(defaults[k], v)}
  return group


def _factor(model, defaults) -> float | None:
  """By how much every layer is wider than the name's own; None where that differs by layer."""
  factor = model["stem_width"] / defaults["stem_width"]
  same = [w == factor * d for w, d in zip(model["widths"], defaults["widths"])]
  whole = len(model["widths"]) == len(defaults["widths"]) and all(same)
  return factor if whole and factor != 1 else None


def _same(a, b) -> bool:
  return (list(a) if isinstance(a, tuple) else a) == (list(b) if isinstance(b, tuple) else b)
