"""Backbones by name."""

import flax.linen as nn

from ssl_jax.errors import UserError, nearest
from ssl_jax.models.names import choose
from ssl_jax.models.resnet import ResNet

# The CIFAR family of He et al. 2016, section 4.2: 6n + 2 layers in three stages, from 16 channels.
SMALL = {"block": "basic", "widths": (16, 32, 64), "strides": (1, 2, 2), "stem_width": 16}

# name -> attributes of ResNet. He et al. 2016, table 1, for 18 to 152; He et al. 2016b for 200;
# 10 has one basic block in each of the four stages.
RESNETS = {
    "resnet8": {**SMALL, "blocks": (1, 1, 1)},
    "resnet14": {**SMALL, "blocks": (2, 2, 2)},
    "resnet20": {**SMALL, "blocks": (3, 3, 3)},
    "resnet10": {"block": "basic", "blocks": (1, 1, 1, 1)},
    "resnet18": {"block": "basic", "blocks": (2, 2, 2, 2)},
    "resnet34": {"block": "basic", "blocks": (3, 4, 6, 3)},
    "resnet50": {"block": "bottleneck", "blocks": (3, 4, 6, 3)},
    "resnet101": {"block": "bottleneck", "blocks": (3, 4, 23, 3)},
    "resnet152": {"block": "bottleneck", "blocks": (3, 8, 36, 3)},
    "resnet200": {"block": "bottleneck", "blocks": (3, 24, 36, 3)},
}

# SimCLR v2's networks: selective kernels, and the stem and the shortcuts of ResNet-D.
SELECTIVE = {"block": "selective", "stem": "deep", "projection": "pooled"}
RESNETS |= {f"{name}_sk": RESNETS[name] | SELECTIVE
            for name in ("resnet50", "resnet101", "resnet152", "resnet200")}


def stem_for(name: str, image_size: int) -> str:
  """The stem that fits square images of that many pixels: "small" up to 64, then the name's own."""
  return "small" if image_size <= 64 else RESNETS.get(name, {}).get("stem", ResNet.stem)


def make_backbone(name: str, **options) -> nn.Module:
  """The backbone of that name; `options` are attributes of `ResNet` and win over the name's own.

  For example `make_backbone("resnet50", width=2, padding="same", kernel_init="haiku")`, or, for a
  laptop, `make_backbone("resnet8", width=2, stem="strided")`: see `ResNet` for all of them.

  Raises:
    UserError: on an unknown name or option, with the nearest known; on stages that disagree.
  """
  attributes = choose("backbone", name, RESNETS)
  known = set(ResNet.__dataclass_fields__) - {"parent", "name"}
  for option in options:
    if option not in known:
      raise UserError(f"backbone: {name} has no option {option!r}; {nearest(option, known)}")
  # Configurations read from JSON bring lists, and a module must be hashable.
  options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
  module = ResNet(**attributes | options)
  stages = {what: len(getattr(module, what)) for what in ("blocks", "widths", "strides")}
  if len(set(stages.values())) > 1:
    raise UserError(f"backbone: {name} with " + ", ".join(
        f"{count} {what}" for what, count in stages.items()) + "; give one of each for every stage")
  return module
