"""Backbones by name."""

import flax.linen as nn

from ssl_jax.errors import UserError, nearest
from ssl_jax.models.names import choose
from ssl_jax.models.resnet import ResNet

# name -> (block, blocks of each stage). He et al. 2016, table 1; 200 from He et al. 2016b; 10 and
# 14 for tests and laptops.
RESNETS = {
    "resnet10": ("basic", (1, 1, 1, 1)),
    "resnet14": ("bottleneck", (1, 1, 1, 1)),
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
    "resnet200": ("bottleneck", (3, 24, 36, 3)),
}


def make_backbone(name: str, **options) -> nn.Module:
  """The backbone of that name; `options` are attributes of `ResNet`, and override its depth too.

  For example `make_backbone("resnet50", width=2, padding="same", kernel_init="haiku")`, or
  `make_backbone("resnet10", blocks=(1, 1, 1), widths=(32, 64, 128), strides=(1, 2, 2),
  stem_width=32, stem="strided")` for a laptop.

  Raises:
    UserError: on an unknown name or option, with the nearest known.
  """
  block, blocks = choose("backbone", name, RESNETS)
  known = set(ResNet.__dataclass_fields__) - {"parent", "name"}
  for option in options:
    if option not in known:
      raise UserError(f"backbone: {name} has no option {option!r}; {nearest(option, known)}")
  # Configurations read from JSON bring lists, and a module must be hashable.
  options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
  return ResNet(**{"block": block, "blocks": blocks} | options)
