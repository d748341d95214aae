"""Residual networks of any depth, width and stem (He et al. 2016), stride in the 3x3 ("v1.5").

Module names: stem_conv, stem_norm (numbered if there are several), then stage1_block1 ... with
conv1, norm1, conv2, ... (spatial2 for conv2 and norm2 in a selective block) and, where the shortcut
is a projection, projection_conv and projection_norm.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from ssl_jax.models.conv import Conv, max_pool, same_padding, symmetric_padding
from ssl_jax.models.names import choose
from ssl_jax.models.norm import batch_norm
from ssl_jax.models.selective_kernel import SelectiveKernel
from ssl_jax.types import Array


class Stem(NamedTuple):
  """The layers before the first stage: convolutions, and a 3x3 stride-2 max-pool or none."""

  convs: tuple[tuple[int, int, float], ...]  # (kernel, stride, share of the stem's channels)
  pool: bool
  margin: int = 0  # rows and columns of zeros around the image, beside the convolutions' padding


STEMS = {
    "imagenet": Stem(((7, 2, 1),), True),  # He et al. 2016: 224 px -> 56 px
    "deep": Stem(((3, 2, 0.5), (3, 1, 0.5), (3, 1, 1)), True),  # ResNet-D; the same sizes
    "small": Stem(((3, 1, 1),), False),  # SimCLR B.9, for CIFAR: keeps every pixel
    "small_wide": Stem(((3, 1, 1),), False, 1),  # solo-learn's for CIFAR, padded by 2: 34 of 32 px
    "strided": Stem(((3, 2, 1),), False),  # halves a small image: four times cheaper than "small"
}

# The padding of convolutions and of the stem's max-pool.
PADDINGS = {
    "torch": (symmetric_padding, symmetric_padding),
    "same": (same_padding, same_padding),  # BYOL and its family
    "simclr": (symmetric_padding, same_padding),  # its code pads only convolutions
}

INITS = {
    # Haiku's default, as in BYOL: std 1/sqrt(fan_in) cut at two sigma, not corrected for the cut.
    "haiku": lambda key, shape, dtype: nn.initializers.truncated_normal(
        (shape[0] * shape[1] * shape[2]) ** -0.5)(key, shape, dtype),
    # torchvision: kaiming_normal_, fan_out, gain of a ReLU.
    "torch": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    # SimCLR: the same as haiku's but of variance 1/fan_in after the cut.
    "simclr": nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal"),
}

SHORTCUTS = {
    # Whether the first block of a stage projects, given that the shape changes.
    "when_needed": lambda changes: changes,  # torchvision, SimCLR
    "every_stage": lambda changes: True,  # BYOL's family, also in ResNet-18 and 34
}



def strided_projection(conv, x: Array, channels: int, stride: int) -> Array:
  """The shortcut's 1x1 convolution takes every second pixel (He et al. 2016)."""
  return conv(channels, 1, stride, name="projection_conv")(x)


def pooled_projection(conv, x: Array, channels: int, stride: int) -> Array:
  """The shortcut's 1x1 convolution follows a 2x2 mean (ResNet-D; He et al. 2019, 1812.01187).

  As in SimCLR's code: with stride 1 there is a mean as well, of what lies within the image.
  """
  x = nn.avg_pool(x, (2, 2), (stride, stride), ((0, 1), (0, 1)), count_include_pad=stride > 1)
  return conv(channels, 1, 1, name="projection_conv")(x)


PROJECTIONS = {"strided": strided_projection, "pooled": pooled_projection}


class Block(nn.Module):
  """A residual block: f[B,H,W,C] -> f[B,h,w,D].

  Attributes:
    layers: (kernel, stride, channels) of every convolution.
    project: A function of PROJECTIONS, then followed by a norm; None for the identity.
    conv: Maker of a convolution.
    norm: Maker of a norm.
    spatial: Maker of what stands for every convolution of more than one pixel with its norm and
      ReLU, `(channels, stride, conv, norm)`; None for these three.
    zero_init_last: Whether the last norm's scale starts at zero, so that the block starts as its
      shortcut (Goyal et al. 2017, section 5.1).
  """

  layers: tuple[tuple[int, int, int], ...]
  project: Callable[..., Array] | None
  conv: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]
  spatial: Callable[..., nn.Module] | None
  zero_init_last: bool

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    y = x
    for i, (kernel, stride, channels) in enumerate(self.layers, 1):
      if self.spatial and kernel > 1:
        y = self.spatial(channels, stride, self.conv, self.norm, name=f"spatial{i}")(y, train)
        continue
      last = i == len(self.layers)
      init = nn.initializers.zeros if last and self.zero_init_last else nn.initializers.ones
      y = self.conv(channels, kernel, stride, name=f"conv{i}")(y)
      y = self.norm(scale_init=init, name=f"norm{i}")(y, train)
      y = y if last else nn.relu(y)
    if self.project:
      stride = max(s for _, s, _ in self.layers)
      x = self.project(self.conv, x, self.layers[-1][-1], stride)
      x = self.norm(name="projection_norm")(x, train)
    return nn.relu(x + y)


def basic(width: int, stride: int):
  """Two 3x3 convolutions of `width` channels."""
  return (3, stride, width), (3, 1, width)


def bottleneck(width: int, stride: int):
  """A 3x3 of `width` channels between 1x1 convolutions; gives four times as many."""
  return (1, 1, width), (3, stride, width), (1, 1, 4 * width)


def bottleneck_v1(width: int, stride: int):
  """A bottleneck as published, with the stride in the first 1x1 (He et al. 2016, Caffe)."""
  return (1, stride, width), (3, 1, width), (1, 1, 4 * width)


# name -> the layers and the spatial module of a block.
BLOCKS = {"basic": (basic, None), "bottleneck": (bottleneck, None),
          "bottleneck_v1": (bottleneck_v1, None),
          "selective": (bottleneck, SelectiveKernel)}


class ResNet(nn.Module):
  """f[B,H,W,3] -> {"stage1": f[B,h,w,C], ..., "features": f32[B,F]}, features being a mean pool.

  Attributes:
    blocks: Number of blocks of every stage; as many stages as there are numbers.
    block: A name of BLOCKS.
    widths: Channels of every stage (those of the 3x3 convolutions), before `width`.
    strides: Stride of the first block of every stage.
    stem_width: Channels of the stem, before `width`.
    width: Multiplies every layer, the stem's included.
    stem: A name of STEMS.
    padding: A name of PADDINGS.
    kernel_init: A name of INITS, for the convolutions.
    shortcut: A name of SHORTCUTS: which stages begin with a projection.
    projection: A name of PROJECTIONS: what such a projection does.
    zero_init_last: Whether every block starts as its shortcut.
    norm: "global", or the number of samples in a BatchNorm group.
    dtype: Compute dtype; parameters, statistics and features are f32.
    remat: Whether the backward pass computes the inside of every block again instead of keeping
      it: a third more operations, and the memory of the blocks' inputs and of one block.
  """

  blocks: tuple[int, ...]
  block: str = "bottleneck"
  widths: tuple[int, ...] = (64, 128, 256, 512)
  strides: tuple[int, ...] = (1, 2, 2, 2)
  stem_width: int = 64
  width: float = 1
  stem: str = "imagenet"
  padding: str = "torch"
  kernel_init: str = "torch"
  shortcut: str = "when_needed"
  projection: str = "strided"
  zero_init_last: bool = False
  norm: str | int = "global"
  dtype: jnp.dtype = jnp.float32
  remat: bool = False

  @nn.compact
  def __call__(self, images: Array, train: bool) -> dict[str, Array]:
    conv_padding, pool_padding = choose("padding", self.padding, PADDINGS)
    stem = choose("stem", self.stem, STEMS)
    layers, spatial = choose("block", self.block, BLOCKS)
    projects = choose("shortcut", self.shortcut, SHORTCUTS)
    projection = choose("projection", self.projection, PROJECTIONS)
    init = choose("kernel_init", self.kernel_init, INITS)
    norm = batch_norm(self.norm, self.dtype)

    def conv(channels, kernel, stride, name):
      return Conv(channels, kernel, stride, conv_padding, init, self.dtype, name=name)

    x = images.astype(self.dtype)
    x = jnp.pad(x, ((0, 0), *((stem.margin, stem.margin),) * 2, (0, 0))) if stem.margin else x
    for i, (kernel, stride, share) in enumerate(stem.convs, 1):
      number = i if len(stem.convs) > 1 else ""
      x = conv(round(self.stem_width * self.width * share), kernel, stride, f"stem_conv{number}")(x)
      x = nn.relu(norm(name=f"stem_norm{number}")(x, train))
    if stem.pool:
      x = max_pool(x, 3, 2, pool_padding(x.shape[1:3], 3, 2))
    block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
    outputs = {}
    for s, (count, channels, stride) in enumerate(
        zip(self.blocks, self.widths, self.strides, strict=True), 1):
      for b in range(1, count + 1):
        shape = layers(round(channels * self.width), stride if b == 1 else 1)
        changes = x.shape[-1] != shape[-1][-1] or (b == 1 and stride != 1)
        project = projection if b == 1 and projects(changes) else None
        x = block(shape, project, conv, norm, spatial, self.zero_init_last,
                  name=f"stage{s}_block{b}")(x, train)
      outputs[f"stage{s}"] = x
    outputs["features"] = x.astype(jnp.float32).mean((1, 2))
    return outputs
