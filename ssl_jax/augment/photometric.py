"""Photometric operations on one image f32[H, W, 3] in [0, 1].

`adjust_*` is deterministic, `random_*` draws the amount from `key` and calls it. All but
`normalise` return values clipped to [0, 1]. Where libraries mean different things by one word,
each meaning has a name: TensorFlow (SimCLR, BYOL) takes contrast around each channel's mean and
scales the saturation of HSV; torchvision (MoCo, SupContrast) takes contrast around the mean grey
level and saturation as a blend with the grey image.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ssl_jax.augment.color import (
    channel_means,
    luma,
    rotate_hue,
    saturation_gain,
    value_and_chroma,
)
from ssl_jax.types import Array


def clip(image: Array) -> Array:
  """Cuts values to [0, 1]."""
  return jnp.clip(image, 0, 1)


def blend(image: Array, other: Array, factor: Array) -> Array:
  """`other` at factor 0, `image` at factor 1, and beyond, clipped to [0, 1]."""
  return clip(other + factor * (image - other))


def adjust_brightness_additive(image: Array, delta: Array) -> Array:
  """Adds `delta` to all channels (BYOL, SimCLR v1, `tf.image.adjust_brightness`)."""
  return clip(image + delta)


def adjust_brightness_multiplicative(image: Array, factor: Array) -> Array:
  """Multiplies all channels by `factor` (SimCLR v2, torchvision)."""
  return clip(image * factor)


def adjust_contrast_per_channel(image: Array, factor: Array) -> Array:
  """Scales the distance to each channel's mean over the image (`tf.image.adjust_contrast`)."""
  return blend(image, channel_means(image), factor)


def adjust_contrast_grey(image: Array, factor: Array) -> Array:
  """Scales the distance to the image's mean grey level (torchvision, Pillow)."""
  return blend(image, luma(channel_means(image)), factor)


def adjust_saturation_hsv(image: Array, factor: Array) -> Array:
  """Scales the saturation of HSV, at most to 1 (`tf.image.adjust_saturation`)."""
  value, chroma = value_and_chroma(image)
  gain = saturation_gain(value, chroma, factor)
  return blend(image, value[..., None], gain[..., None])


def adjust_saturation_grey(image: Array, factor: Array) -> Array:
  """Scales the distance to the grey image (torchvision, Pillow)."""
  return blend(image, luma(image)[..., None], factor)


def adjust_hue(image: Array, turns: Array) -> Array:
  """Turns the hue by a fraction of the full circle; 1/3 makes red green."""
  return clip(jnp.stack(rotate_hue(image, turns), axis=-1))


def to_greyscale(image: Array) -> Array:
  """The grey level in all three channels."""
  return clip(jnp.broadcast_to(luma(image)[..., None], image.shape))


def solarise(image: Array, threshold: float = 0.5) -> Array:
  """Inverts the values that are not below `threshold`: x if x < threshold else 1 - x."""
  return jnp.where(image < threshold, image, 1 - image)


def normalise(image: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
  """(image - mean) / std, per channel."""
  return (image - jnp.asarray(mean, image.dtype)) / jnp.asarray(std, image.dtype)


def draw_delta(key: Array, strength: float) -> Array:
  """A number uniform in [-strength, strength): for additive brightness and for hue."""
  return jax.random.uniform(key, minval=-strength, maxval=strength)


def draw_factor(key: Array, strength: float) -> Array:
  """A factor uniform in [max(0, 1 - strength), 1 + strength)."""
  return jax.random.uniform(key, minval=max(0.0, 1 - strength), maxval=1 + strength)


def random_brightness_additive(key: Array, image: Array, *, strength: float) -> Array:
  """`adjust_brightness_additive` by U(-strength, strength)."""
  return adjust_brightness_additive(image, draw_delta(key, strength))


def random_brightness_multiplicative(key: Array, image: Array, *, strength: float) -> Array:
  """`adjust_brightness_multiplicative` by U(max(0, 1 - strength), 1 + strength)."""
  return adjust_brightness_multiplicative(image, draw_factor(key, strength))


def random_contrast_per_channel(key: Array, image: Array, *, strength: float) -> Array:
  """`adjust_contrast_per_channel` by U(max(0, 1 - strength), 1 + strength)."""
  return adjust_contrast_per_channel(image, draw_factor(key, strength))


def random_contrast_grey(key: Array, image: Array, *, strength: float) -> Array:
  """`adjust_contrast_grey` by U(max(0, 1 - strength), 1 + strength)."""
  return adjust_contrast_grey(image, draw_factor(key, strength))


def random_saturation_hsv(key: Array, image: Array, *, strength: float) -> Array:
  """`adjust_saturation_hsv` by U(max(0, 1 - strength), 1 + strength)."""
  return adjust_saturation_hsv(image, draw_factor(key, strength))


def random_saturation_grey(key: Array, image: Array, *, strength: float) -> Array:
  """`adjust_saturation_grey` by U(max(0, 1 - strength), 1 + strength)."""
  return adjust_saturation_grey(image, draw_factor(key, strength))


def random_hue(key: Array, image: Array, *, strength: float) -> Array:
  """`adjust_hue` by U(-strength, strength) turns."""
  return adjust_hue(image, draw_delta(key, strength))
