"""Colour jitter: brightness, contrast, saturation and hue in an order drawn for each image.

Under `vmap` a switch evaluates all its branches, four operations at each of four places. Here a
place evaluates one blend, `other + factor * (image - other)`, whose parameters are chosen by the
operation that stands there, and one rotation of hue; both are a few operations a pixel and fuse
into one pass over the image. The result equals applying the four operations one after another,
each clipped to [0, 1].

Three families, by origin. BYOL and SimCLR v1: additive brightness, contrast per channel,
saturation of HSV. SimCLR v2: the same with multiplicative brightness. torchvision (MoCo,
SupContrast): multiplicative brightness, contrast around the mean grey level, saturation as a
blend with the grey image.
"""

import itertools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment.color import (
    channel_means,
    luma,
    rotate_hue,
    saturation_gain,
    value_and_chroma,
)
from ssl_jax.types import Array

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
ORDERS = np.array(list(itertools.permutations(range(4))), np.int32)


class Jitter(NamedTuple):
  """The draws of one image. `order[i]` names the operation at place i."""

  brightness: Array  # f32[]: a summand or a factor, as the family says
  contrast: Array  # f32[]: a factor
  saturation: Array  # f32[]: a factor
  hue: Array  # f32[]: in turns
  order: Array  # i32[4]: a permutation of BRIGHTNESS, CONTRAST, SATURATION, HUE


def adjust_jitter_byol(image: Array, jitter: Jitter) -> Array:
  """Jitter of BYOL (and SimCLR v1): f32[H, W, 3] in [0, 1] -> the same."""
  factors = jitter._replace(brightness=jnp.ones(()))
  for place in range(4):
    at = jitter.order[place]
    summand = jnp.where(at == BRIGHTNESS, jitter.brightness, 0)
    image = _step(image, at, factors, _blend_tf(image, at, factors), summand)
  return image


def adjust_jitter_simclr(image: Array, jitter: Jitter) -> Array:
  """Jitter of SimCLR v2: f32[H, W, 3] in [0, 1] -> the same."""
  for place in range(4):
    at = jitter.order[place]
    image = _step(image, at, jitter, _blend_tf(image, at, jitter))
  return image


def adjust_jitter_torchvision(image: Array, jitter: Jitter) -> Array:
  """Jitter of torchvision's `ColorJitter`: f32[H, W, 3] in [0, 1] -> the same."""
  for place in range(4):
    at = jitter.order[place]
    image = _step(image, at, jitter, _blend_torchvision(image, at, jitter))
  return image


def draw_additive(
    key: Array, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Jitter:
  """Strengths to draws: brightness in U(-b, b), factors in U(max(0, 1 - s), 1 + s), hue U(-h, h).

  The parameters do not depend on the order.
  """
  u = jax.random.uniform(key, (5,))
  return Jitter(
      brightness=(2 * u[0] - 1) * brightness, contrast=_factor(u[1], contrast),
      saturation=_factor(u[2], saturation), hue=(2 * u[3] - 1) * hue, order=_order(u[4]))


def draw_multiplicative(
    key: Array, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Jitter:
  """Strengths to draws: factors in U(max(0, 1 - s), 1 + s), hue in U(-h, h) turns."""
  u = jax.random.uniform(key, (5,))  # one call: each costs compilation
  return Jitter(
      brightness=_factor(u[0], brightness), contrast=_factor(u[1], contrast),
      saturation=_factor(u[2], saturation), hue=(2 * u[3] - 1) * hue, order=_order(u[4]))


def random_jitter_byol(
    key: Array, image: Array, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Array:
  """`adjust_jitter_byol` by `draw_additive`."""
  return adjust_jitter_byol(image, draw_additive(
      key, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue))


def random_jitter_simclr(
    key: Array, image: Array, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Array:
  """`adjust_jitter_simclr` by `draw_multiplicative`."""
  return adjust_jitter_simclr(image, draw_multiplicative(
      key, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue))


def random_jitter_torchvision(
    key: Array, image: Array, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Array:
  """`adjust_jitter_torchvision` by `draw_multiplicative`."""
  return adjust_jitter_torchvision(image, draw_multiplicative(
      key, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue))


def _factor(u, strength):
  low = max(0.0, 1 - strength)
  return low + u * (1 + strength - low)


def _order(u):
  index = jnp.minimum(jnp.floor(u * len(ORDERS)), len(ORDERS) - 1)
  chosen = jnp.arange(len(ORDERS)) == index  # a select, not a gather
  return jnp.sum(jnp.where(chosen[:, None], ORDERS, 0), axis=0)


def _blend_tf(image, at, jitter):
  """(other, factor) of the blend at one place for each channel, in TensorFlow's meanings."""
  value, chroma = value_and_chroma(image)
  gain = saturation_gain(value, chroma, jitter.saturation)
  factor = jnp.where(at == SATURATION, gain,
                     jnp.where(at == CONTRAST, jitter.contrast, jitter.brightness))
  centre = jnp.where(at == CONTRAST, channel_means(image), 0)
  return [(jnp.where(at == SATURATION, value, centre[i]), factor) for i in range(3)]


def _blend_torchvision(image, at, jitter):
  """(other, factor) of the blend at one place for each channel, in torchvision's meanings."""
  factor = jnp.where(at == SATURATION, jitter.saturation,
                     jnp.where(at == CONTRAST, jitter.contrast, jitter.brightness))
  centre = jnp.where(at == CONTRAST, luma(channel_means(image)), 0)
  return [(jnp.where(at == SATURATION, luma(image), centre), factor)] * 3


def _step(image, at, jitter, blends, summand=None):
  chex.assert_shape(image, (None, None, 3))
  rotated = rotate_hue(image, jitter.hue)
  channels = []
  for i, (other, factor) in enumerate(blends):
    blended = other + factor * (image[..., i] - other)
    if summand is not None:
      blended = blended + summand
    channels.append(jnp.clip(jnp.where(at == HUE, rotated[i], blended), 0, 1))
  # Without the barrier XLA computes the first places again inside each later one.
  return jax.lax.optimization_barrier(jnp.stack(channels, axis=-1))
