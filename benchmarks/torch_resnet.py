"""The residual networks of `ssl_jax.models` in PyTorch, from the same fields: the rival's network.

Only what the comparisons need: torch padding, projections where the shape changes, global
BatchNorm. Nothing here imports jax, so that it runs where there is only PyTorch.
"""

import torch
from torch import nn

STEMS = {"imagenet": (7, 2, True), "small": (3, 1, False), "strided": (3, 2, False)}


def conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
  made = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
  nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
  return made


class Block(nn.Module):
  """A basic block (two 3x3) or a bottleneck (1x1, 3x3, 1x1 of four times the channels)."""

  def __init__(self, inputs: int, channels: int, stride: int, block: str, zero_init_last: bool):
    super().__init__()
    shapes = {"basic": ((3, stride, channels), (3, 1, channels)),
              "bottleneck": ((1, 1, channels), (3, stride, channels), (1, 1, 4 * channels))}[block]
    layers, before = [], inputs
    for kernel, step, after in shapes:
      layers += [conv(before, after, kernel, step), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
      before = after
    self.body = nn.Sequential(*layers[:-1])
    self.outputs = before
    self.shortcut = nn.Identity() if before == inputs and stride == 1 else nn.Sequential(
        conv(inputs, before, 1, stride), nn.BatchNorm2d(before))
    if zero_init_last:
      nn.init.zeros_(self.body[-1].weight)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return torch.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):
  """f[B,3,H,W] -> f[B,F], a mean pool; `features` is F."""

  def __init__(self, blocks, block="bottleneck", widths=(64, 128, 256, 512), strides=(1, 2, 2, 2),
               stem_width=64, stem="imagenet", zero_init_last=False):
    super().__init__()
    kernel, stride, pool = STEMS[stem]
    layers = [conv(3, stem_width, kernel, stride), nn.BatchNorm2d(stem_width),
              nn.ReLU(inplace=True)]
    layers += [nn.MaxPool2d(3, 2, 1)] if pool else []
    before = stem_width
    for count, channels, stride in zip(blocks, widths, strides, strict=True):
      for i in range(count):
        layers.append(Block(before, channels, stride if i == 0 else 1, block, zero_init_last))
        before = layers[-1].outputs
    self.body = nn.Sequential(*layers)
    self.features = before

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return self.body(x).mean((2, 3))


def simclr_head(features: int, depth: int, hidden: int | None, output: int) -> nn.Sequential:
  """SimCLR's projector as `ssl_jax.models.simclr_head` builds it; its last norm has no bias."""
  hidden = hidden or features
  layers, before = [], features
  for i in range(depth):
    after = output if i == depth - 1 else hidden
    layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    nn.init.normal_(layers[-3].weight, std=0.01)
    before = after
  layers[-2].bias.requires_grad_(False)  # stays at zero
  return nn.Sequential(*layers[:-1])
