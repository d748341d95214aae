"""A convolutional network from noise to an image, whose shape alone prefers natural images."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.models.conv import NO_PADDING, Conv
from ssl_jax.types import Array


class Hourglass(nn.Module):
  """f32[B,h,w,C] -> f32[B,h,w,3] in (0, 1): an encoder-decoder with thin skip connections.

  The generator of deep image prior, Ulyanov et al. 2017, arXiv:1711.10925, figure 21: each scale
  halves the image (3x3, stride 2), works on it (3x3), and comes back by bilinear enlargement beside
  a 1x1 skip; leaky ReLU of 0.2, reflection padding. Norms are over each image by itself, which is
  their BatchNorm, as they train on a batch of one; it makes a bias of what precedes it idle.

  Attributes:
    channels: Of every scale; the image is halved as often as there are numbers. The paper's
      default is 128 five times.
    skip: Channels of every skip.
  """

  channels: tuple[int, ...] = (128, 128, 128, 128, 128)
  skip: int = 4

  @nn.compact
  def __call__(self, noise: Array) -> Array:
    x, skips = noise, []
    for i, channels in enumerate(self.channels):
      skips.append(self._layer(x, self.skip, 1, 1, f"skip{i}"))
      x = self._layer(x, channels, 3, 2, f"down{i}")
      x = self._layer(x, channels, 3, 1, f"work{i}")
    for i, channels in reversed(list(enumerate(self.channels))):
      aside = skips[i]
      x = jax.image.resize(x, (*aside.shape[:3], x.shape[-1]), "bilinear")
      x = self._norm(jnp.concatenate([x, aside], axis=-1), f"join{i}")
      x = self._layer(x, channels, 3, 1, f"up{i}")
      x = self._layer(x, channels, 1, 1, f"mix{i}")
    bias = self.param("bias", nn.initializers.zeros, (3,))
    return nn.sigmoid(Conv(3, 1, name="image")(x) + bias)

  def _layer(self, x: Array, channels: int, kernel: int, stride: int, name: str) -> Array:
    x = jnp.pad(x, ((0, 0), *((kernel // 2,) * 2,) * 2, (0, 0)), mode="reflect")
    x = Conv(channels, kernel, stride, lambda *_: NO_PADDING, name=name)(x)
    return nn.leaky_relu(self._norm(x, f"{name}_norm"), 0.2)

  def _norm(self, x: Array, name: str) -> Array:
    return InstanceNorm(name=name)(x)


class InstanceNorm(nn.Module):
  """Every channel of every image of f32[B,h,w,C] to mean 0 and deviation 1, scaled and shifted."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
    bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
    x = x - x.mean((1, 2), keepdims=True)
    variance = jnp.mean(jnp.square(x), (1, 2), keepdims=True)
    return x * jax.lax.rsqrt(variance + 1e-5) * scale + bias
