"""Pillow's operations on one image u8[H, W, 3], with its arithmetic: for views that were made of
8-bit images, where every operation rounds.

`ssl_jax.augment.strong` chooses among them for each image without evaluating them all. Amounts may
be traced, but those of the maps are Python numbers: Pillow computes their coefficients in f64.
"""

import math

import chex
import jax
import jax.numpy as jnp

from ssl_jax.types import Array

Map = tuple[int, int, int, int, int, int]  # coefficients of an affine map, in 1/65536 of a pixel
ONE = 1 << 16
IDENTITY: Map = (ONE, 0, ONE // 2, 0, ONE, ONE // 2)


def histogram(image: Array) -> Array:
  """How often each channel has each level: u8[H, W, 3] -> i32[3, 256].

  On a CPU a scatter; elsewhere, where scatters wait for each other, the product of one-hot codes of
  the upper and of the lower four bits.
  """
  return jax.lax.platform_dependent(image, cpu=_histogram_scatter, default=_histogram_product)


def _histogram_scatter(image):
  chex.assert_shape(image, (None, None, 3))
  places = (image.astype(jnp.int32) + 256 * jnp.arange(3)).reshape(-1)
  return jnp.zeros(3 * 256, jnp.int32).at[places].add(1).reshape(3, 256)


def _histogram_product(image):
  chex.assert_shape(image, (None, None, 3))
  levels = image.reshape(-1, 3).astype(jnp.int32).T[..., None]  # [3, N, 1]
  upper, lower = ((nibble == jnp.arange(16)).astype(jnp.bfloat16)
                  for nibble in (levels // 16, levels % 16))
  counts = jnp.einsum("cni,cnj->cij", upper, lower, preferred_element_type=jnp.float32)
  return counts.reshape(3, 256).astype(jnp.int32)  # exact below 2^24 pixels


def equalize(image: Array, counts: Array) -> Array:
  """`ImageOps.equalize`: every channel's levels about equally frequent; `counts` its histogram."""
  level = jnp.arange(256)
  last = jnp.max(jnp.where(counts > 0, level, 0), axis=1, keepdims=True)
  step = jnp.sum(jnp.where(level < last, counts, 0), axis=1) // 255
  up_to = jnp.cumsum(counts, axis=1).reshape(-1)
  place = image.astype(jnp.int32) + 256 * jnp.arange(3)
  below = jnp.where(image > 0, up_to[place - 1], 0)  # pixels
  equalized = jnp.minimum(_quotient(step // 2 + below, jnp.maximum(step, 1)), 255)
  return jnp.where(step > 0, equalized.astype(jnp.uint8), image)


def auto_contrast(image: Array, counts: Array) -> Array:
  """`ImageOps.autocontrast`: every channel's range becomes 0 to 255; `counts` its histogram.

  Pillow's f64 arithmetic sometimes lies a level below this.
  """
  level = jnp.arange(256)
  low = jnp.min(jnp.where(counts > 0, level, 255), axis=1)
  high = jnp.max(jnp.where(counts > 0, level, 0), axis=1)
  stretched = _quotient((image - low) * 255, jnp.maximum(high - low, 1))
  return jnp.where(high > low, stretched.astype(jnp.uint8), image)


def posterize(image: Array, bits: Array) -> Array:
  """`ImageOps.posterize`: keeps the upper `bits` of 8."""
  return image & jnp.asarray(255 << (8 - bits)).astype(jnp.uint8)


def solarize(image: Array, threshold: Array) -> Array:
  """`ImageOps.solarize`: inverts the levels that are not below `threshold`."""
  return jnp.where(image < threshold, image, 255 - image)


def blend(image: Array, other: Array, factor: Array) -> Array:
  """`Image.blend`: `other` at factor 0, `image` at factor 1, cut off to integers; u8 -> u8.

  Factors lie in [0, 1]; beyond, Pillow clips where this wraps around.
  """
  image, other = image.astype(jnp.float32), other.astype(jnp.float32)
  return (other + factor * (image - other)).astype(jnp.uint8)


def grey(image: Array) -> Array:
  """`Image.convert("L")`: u8[H, W, 3] -> u8[H, W], ITU-R 601-2 luma in 1/65536, rounded."""
  red, green, blue = (image[..., i].astype(jnp.int32) for i in range(3))
  return ((19595 * red + 38470 * green + 7471 * blue + ONE // 2) >> 16).astype(jnp.uint8)


def mean_grey(image: Array) -> Array:
  """The mean of `grey`, rounded to an integer: u8[H, W, 3] -> i32[]; below 4 million pixels."""
  level = grey(image)
  return (2 * jnp.sum(level, dtype=jnp.int32) + level.size) // (2 * level.size)


def smooth(image: Array) -> Array:
  """`ImageFilter.SMOOTH`: a 3 x 3 mean with five times the weight on the centre; the border stays.
  """
  height, width, _ = image.shape
  padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0))).astype(jnp.float32)
  rows = padded[:-2] + padded[1:-1] + padded[2:]
  total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * padded[1:-1, 1:-1]
  y, x = jnp.arange(height)[:, None, None], jnp.arange(width)[:, None]
  inside = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
  return jnp.where(inside, (total / 13 + 0.5).astype(jnp.uint8), image)


def nearest(image: Array, coefficients: Array) -> Array:
  """`Image.transform(size, AFFINE, resample=NEAREST)`, black outside: u8[H, W, 3] -> u8[H, W, 3].

  Pixel (x, y) is that of `(a x + b y + c, d x + e y + f)` in units of 1/65536, rounded down.

  Args:
    image: Of less than 32,768 pixels a side.
    coefficients: i32[6], a to f; see `shear_x` and the like.
  """
  chex.assert_shape(coefficients, (6,))
  height, width, _ = image.shape
  a, b, c, d, e, f = coefficients
  x, y = jnp.arange(width), jnp.arange(height)[:, None]
  column, row = (a * x + b * y + c) >> 16, (d * x + e * y + f) >> 16
  inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
  place = jnp.where(inside, row * width + column, 0)
  return jnp.where(inside[..., None], image.reshape(-1, 3)[place], 0)


def shear_x(amount: float) -> Map:
  """Row y is taken from `amount * y` to the right, about the upper left corner."""
  return _fixed(1, amount, 0, 0, 1, 0)


def shear_y(amount: float) -> Map:
  """Column x is taken from `amount * x` below, about the upper left corner."""
  return _fixed(1, 0, 0, amount, 1, 0)


def translate_x(pixels: int) -> Map:
  """Every pixel is taken from `pixels` to the right."""
  return _fixed(1, 0, pixels, 0, 1, 0)


def translate_y(pixels: int) -> Map:
  """Every pixel is taken from `pixels` below."""
  return _fixed(1, 0, 0, 0, 1, pixels)


def rotation(degrees: float, height: int, width: int) -> Map:
  """`Image.rotate`: counter-clockwise about the centre of an image of that size, not expanded."""
  angle = -math.radians(degrees % 360)
  cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
  x, y = width / 2, height / 2
  return _fixed(cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)


def _quotient(numerator, denominator):
  """The integer part of a quotient of positive integers, at most 2^24 and 2^16: exact, and a CPU
  divides floats at a fraction of the price."""
  return (numerator.astype(jnp.float32) / denominator).astype(jnp.int32)


def _fixed(a, b, c, d, e, f) -> Map:
  """To 1/65536, the offsets for the centres of pixels."""
  def fix(value):
    return math.floor(value * ONE + 0.5)
  return fix(a), fix(b), fix(c + a * 0.5 + b * 0.5), fix(d), fix(e), fix(f + d * 0.5 + e * 0.5)
