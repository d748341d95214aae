"""Colour maths on RGB images in [0, 1]: any leading shape, the three channels last.

Nothing here clips. Hue, saturation and value follow the usual hexcone model (Smith, "Color
gamut transform pairs", 1978), the one behind `tf.image`, torchvision and Pillow, written without
the case distinction over six sectors: a channel of the output is `v - c * ramp(n + 6 h)`, where
`c` is the chroma, `n` is 5, 3, 1 for red, green, blue, and `ramp` is a trapezium of period 6.
"""

import jax
import jax.numpy as jnp

Array = jax.Array

LUMA = (0.2989, 0.5870, 0.1140)  # ITU-R BT.601, rounded as TensorFlow and torchvision round it


def luma(image: Array) -> Array:
  """The grey level of RGB: f32[..., 3] -> f32[...], weights 0.2989, 0.5870, 0.1140."""
  red, green, blue = _channels(image)
  return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def value_and_chroma(image: Array) -> tuple[Array, Array]:
  """The largest channel, and its distance to the smallest: f32[..., 3] -> two f32[...]."""
  red, green, blue = _channels(image)
  value = jnp.maximum(jnp.maximum(red, green), blue)
  return value, value - jnp.minimum(jnp.minimum(red, green), blue)


def rgb_to_hsv(image: Array) -> Array:
  """RGB in [0, 1] to hue (in turns, [0, 1)), saturation and value in [0, 1]: f32[..., 3].

  Grey has hue 0 and saturation 0, and so has black.
  """
  value, chroma = value_and_chroma(image)
  hue = _sextant(image, value, chroma) / 6
  saturation = jnp.where(value > 0, chroma / jnp.where(value > 0, value, 1), 0)
  return jnp.stack([hue - jnp.floor(hue), saturation, value], axis=-1)


def hsv_to_rgb(image: Array) -> Array:
  """The inverse of `rgb_to_hsv`; a hue outside [0, 1) is taken modulo one turn: f32[..., 3]."""
  hue, saturation, value = _channels(image)
  return jnp.stack(_from_sextant(6 * hue, value, value * saturation), axis=-1)


def rotate_hue(image: Array, turns: Array) -> tuple[Array, Array, Array]:
  """Adds `turns` (a fraction of the full circle) to the hue; saturation and value stay.

  Returns the three channels apart, f32[...] each, so that more can be fused before they are
  stacked.
  """
  value, chroma = value_and_chroma(image)
  return _from_sextant(_sextant(image, value, chroma) + 6 * turns, value, chroma)


def saturation_gain(value: Array, chroma: Array, factor: Array) -> Array:
  """What the distance `value - channel` grows by when saturation becomes min(1, factor * s).

  At constant hue and value each channel's distance to the largest one is proportional to the
  saturation, so that a change of saturation needs no hue: f32[...] in [0, factor].
  """
  limit = value / jnp.where(chroma > 0, chroma, 1)  # the saturation is then 1
  return jnp.where(chroma > 0, jnp.clip(factor, 0, jnp.maximum(limit, 0)), 1)


def channel_means(image: Array) -> Array:
  """The mean over height and width: f32[H, W, C] -> f32[C].

  Columns of whole rows are added first. The barrier keeps XLA from merging the two sums into
  one over an axis of stride 3, which is four times slower on a CPU and serial on a GPU.
  """
  height, width, channels = image.shape
  columns = jnp.sum(image.reshape(height, width * channels), axis=0)
  columns = jax.lax.optimization_barrier(columns)
  return jnp.sum(columns.reshape(width, channels), axis=0) / (height * width)


def _channels(image: Array) -> tuple[Array, Array, Array]:
  return image[..., 0], image[..., 1], image[..., 2]


def _sextant(image: Array, value: Array, chroma: Array) -> Array:
  """The hue in sixths of a turn, in [-1, 5); 0 where there is no chroma."""
  red, green, blue = _channels(image)
  inverse = 1 / jnp.where(chroma > 0, chroma, 1)
  return jnp.where(
      value == red, (green - blue) * inverse,
      jnp.where(value == green, 2 + (blue - red) * inverse, 4 + (red - green) * inverse))


def _from_sextant(sextant: Array, value: Array, chroma: Array) -> Array:
  def channel(n):
    k = sextant + n
    k = k - 6 * jnp.floor(k / 6)
    return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

  return channel(5), channel(3), channel(1)
