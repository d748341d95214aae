"""A convolutional network from noise to an image, whose shape alone prefers natural images."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.types import Array


class Hourglass(nn.Module):
  """f32[B,h,w,C] -> f32[B,h,w,3] in (0, 1): an encoder-decoder with thin skip connections.

  The generator of deep image prior, Ulyanov et al. 2017, arXiv:1711.10925, figure 21: each scale
  halves the image (3x3, stride 2), works on it (3x3), and comes back by bilinear enlargement beside
  a 1x1 skip; leaky ReLU of 0.2, reflection padding. Norms are over each image by itself, which is
  their BatchNorm, as they train on a batch of one.

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
    return nn.sigmoid(nn.Conv(3, (1, 1), name="image")(x))

  def _layer(self, x: Array, channels: int, kernel: int, stride: int, name: str) -> Array:
    x = jnp.pad(x, ((0, 0), *((kernel // 2,) * 2,) * 2, (0, 0)), mode="reflect")
    x = nn.Conv(channels, (kernel, kernel), stride, padding="VALID", name=name)(x)
    return nn.leaky_relu(self._norm(x, f"{name}_norm"), 0.2)

  def _norm(self, x: Array, name: str) -> Array:
    return nn.GroupNorm(num_groups=None, group_size=1, epsilon=1e-5, name=name)(x)
