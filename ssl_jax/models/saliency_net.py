"""A small network from an image to the saliency of its pixels."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.models.conv import Conv
from ssl_jax.types import Array


class _Block(nn.Module):
  """Convolution 3 x 3, GroupNorm, ReLU: it keeps no statistics, so it is the same in training."""

  width: int
  stride: int = 1

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = Conv(self.width, 3, self.stride)(x)
    return nn.relu(nn.GroupNorm(num_groups=8)(x))


class SaliencyNet(nn.Module):
  """An encoder of strided convolutions and a decoder that joins its levels again (a U-Net).

  What the whole image looks like is added at the deepest level: whether a colour is background
  is told by what surrounds it, however far.

  Args:
    widths: Channels of each level, each half as long as the one before; multiples of 8. The side
      of the images must be a multiple of 2 ** len(widths).
  """

  widths: tuple[int, ...] = (16, 32, 64, 96)

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """Images f32[B,S,S,3] in [0, 1] to logits f32[B,S,S]."""
    x, levels = 4 * images - 2, []
    for width in self.widths:
      x = _Block(width, stride=2)(x)
      x = _Block(width)(x)
      levels.append(x)
    x = x + nn.Dense(x.shape[-1])(x.mean((1, 2)))[:, None, None]
    for width, level in zip(self.widths[-2::-1], levels[-2::-1]):
      x = jnp.concatenate([_Block(width)(_doubled(x)), level], axis=-1)
      x = _Block(width)(x)
    return _doubled(nn.Dense(1)(x))[..., 0]


def _doubled(x: Array) -> Array:
  batch, height, width, channels = x.shape
  return jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "bilinear")
