"""A small network from an image to the saliency of its pixels."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.models.conv import Conv
from ssl_jax.types import Array


class _Block(nn.Module):
  """Convolution 3 x 3, normalisation of each image by itself, ReLU."""

  width: int
  stride: int = 1

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = Conv(self.width, 3, self.stride)(x)
    return nn.relu(nn.GroupNorm(num_groups=1)(x))


class SaliencyNet(nn.Module):
  """An encoder of strided convolutions and a decoder that joins its levels again (a U-Net).

  Beside the pixels it sees how they differ from the image's border, which is what the classical
  estimators start from; and what the whole image looks like is added at the deepest level.

  Args:
    widths: Channels of each level, each half as long as the one before. The side of the images must
      be a multiple of 2 ** len(widths).
  """

  widths: tuple[int, ...] = (16, 32, 64, 96)

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """Images f32[B,S,S,3] in [0, 1] to logits f32[B,S,S]."""
    unlike = unlike_border(images)
    x, levels = jnp.concatenate([4 * images - 2, unlike, jnp.abs(unlike)], axis=-1), []
    for width in self.widths:
      x = _Block(width, stride=2)(x)
      x = _Block(width)(x)
      levels.append(x)
    x = x + nn.Dense(x.shape[-1])(x.mean((1, 2)))[:, None, None]
    for width, level in zip(self.widths[-2::-1], levels[-2::-1]):
      x = jnp.concatenate([_Block(width)(_doubled(x)), level], axis=-1)
      x = _Block(width)(x)
    return _doubled(nn.Dense(1)(x))[..., 0]


def unlike_border(images: Array) -> Array:
  """How far a pixel is from the colours of the border, a tenth of the side wide, in deviations.

  f32[B,S,S,3] -> f32[B,S,S,3]; 0.1 is added to the deviation of each channel.
  """
  side = images.shape[1]
  place = jnp.minimum(jnp.arange(side), jnp.arange(side)[::-1])
  rim = (jnp.minimum(place[:, None], place[None]) < max(1, side // 10))[..., None]
  mean, deviation = (f(images, axis=(1, 2), keepdims=True, where=rim) for f in (jnp.mean, jnp.std))
  return (images - mean) / (deviation + 0.1)


def _doubled(x: Array) -> Array:
  batch, height, width, channels = x.shape
  return jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "bilinear")
