"""Where a view is cut out: boxes by origin, and the crops and flips that use them.

A box is sampled in the pixels of the original image, so that its area and aspect are those of the
papers' code whatever canvas the image lies on.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ssl_jax.augment.resample import (
    Box,
    Method,
    bicubic,
    bilinear_antialias,
    crop_and_resize,
    resize_and_crop,
)
from ssl_jax.types import Array

AREA = (0.08, 1.0)  # of the image; Szegedy et al., "Going deeper with convolutions", 2015
RATIO = (3 / 4, 4 / 3)  # width / height


def sample_box_torchvision(
    key: Array, extent: Array, *, area: tuple[float, float] = AREA,
    ratio: tuple[float, float] = RATIO, attempts: int = 10,
) -> Box:
  """A box as torchvision's `RandomResizedCrop` draws it.

  Area uniform, ratio log-uniform; the first of `attempts` boxes that fits, else the largest
  central box with a ratio within the limits.

  Args:
    key: Of one image.
    extent: [2], height and width of the image.
    area: Limits, as fractions of the image.
    ratio: Limits of width / height.
    attempts: Draws before the fallback.
  """
  full_height, full_width = _sides(extent)
  tries, offsets = _draw(key, attempts)
  height, width = _area_and_log_ratio(tries, full_height * full_width, area, ratio)
  fits = (height > 0) & (height <= full_height) & (width > 0) & (width <= full_width)
  central_height = jnp.minimum(full_height, jnp.round(full_width / ratio[0]))
  central_width = jnp.minimum(full_width, jnp.round(full_height * ratio[1]))
  found, (height, width) = _first(fits, height, width)
  top = _integer(offsets[0], full_height - height)
  left = _integer(offsets[1], full_width - width)
  return Box(
      jnp.where(found, top, jnp.floor((full_height - central_height) / 2)),
      jnp.where(found, left, jnp.floor((full_width - central_width) / 2)),
      jnp.where(found, height, central_height), jnp.where(found, width, central_width))


def sample_box_byol(
    key: Array, extent: Array, *, area: tuple[float, float] = AREA,
    ratio: tuple[float, float] = RATIO,
) -> Box:
  """A box as BYOL draws it: one draw, cut to the image where it does not fit.

  Area uniform, ratio log-uniform, as in `sample_box_torchvision`.
  """
  full_height, full_width = _sides(extent)
  tries, offsets = _draw(key, 1)
  height, width = _area_and_log_ratio(tries[:, 0], full_height * full_width, area, ratio)
  height, width = jnp.clip(height, 1, full_height), jnp.clip(width, 1, full_width)
  top = _integer(offsets[0], full_height - height)
  left = _integer(offsets[1], full_width - width)
  return Box(top, left, height, width)


def sample_box_tf(
    key: Array, extent: Array, *, area: tuple[float, float] = AREA,
    ratio: tuple[float, float] = RATIO, covered: float = 0.1, attempts: int = 100,
) -> Box:
  """A box as `tf.image.sample_distorted_bounding_box` draws it for SimCLR.

  Ratio uniform; height uniform between those that the limits of the area imply. A box must cover
  the fraction `covered` of the image (SimCLR passes 0.1 and the whole image as the object, so
  that no crop is smaller than a tenth). The first of `attempts` that satisfies all limits, else
  the whole image. The last possible offset is never drawn, as in the original.
  """
  full_height, full_width = _sides(extent)
  least, most = area[0] * full_height * full_width, area[1] * full_height * full_width
  tries, offsets = _draw(key, attempts)
  r = ratio[0] + tries[0] * (ratio[1] - ratio[0])
  widest = jnp.floor((full_width + 0.5) / r)  # the tallest box whose rounded width fits
  widest = widest - (jnp.round(widest * r) > full_width)
  tallest = jnp.minimum(jnp.minimum(jnp.round(jnp.sqrt(most / r)), widest), full_height)
  lowest = jnp.minimum(jnp.round(jnp.sqrt(least / r)), tallest)
  height = lowest + _integer(tries[1], tallest - lowest)
  # Rounding alone shall not break a limit: one pixel more, or one less.
  height = height + (height * jnp.round(height * r) < least)
  height = height - (height * jnp.round(height * r) > most)
  width = jnp.round(height * r)
  size = height * width
  fits = (size >= least) & (size <= most) & (size >= covered * full_height * full_width)
  fits &= (height > 0) & (height <= full_height) & (width > 0) & (width <= full_width)
  found, (height, width) = _first(fits, height, width)
  height, width = jnp.where(found, height, full_height), jnp.where(found, width, full_width)
  top = _integer(offsets[0], jnp.maximum(full_height - height - 1, 0))
  left = _integer(offsets[1], jnp.maximum(full_width - width - 1, 0))
  return Box(top, left, height, width)


def center_box_byol(extent: Array, *, proportion: float = 0.875) -> Box:
  """The central square of side int(proportion * shorter side) (BYOL's evaluation)."""
  return _center(extent, jnp.floor(proportion * jnp.min(extent)))


def center_box_simclr(extent: Array, *, proportion: float = 0.875) -> Box:
  """The central square of side round(proportion * shorter side), half to even (SimCLR)."""
  return _center(extent, jnp.round(proportion * jnp.min(extent)))


def center_box_torchvision(extent: Array, *, size: int, resize: int) -> Box:
  """What `Resize(resize)` on the shorter side, then `CenterCrop(size)` keep of the original.

  The box lies between pixels of the original: it is for `resize_and_crop`.
  """
  full_height, full_width = _sides(extent)
  shorter = jnp.minimum(full_height, full_width)
  # The sides after Resize. A quotient that is an integer may come out a rounding error below it.
  height = jnp.floor(resize * full_height / shorter + 1e-3)
  width = jnp.floor(resize * full_width / shorter + 1e-3)
  top, left = jnp.round((height - size) / 2), jnp.round((width - size) / 2)
  vertical, horizontal = full_height / height, full_width / width
  return Box(top * vertical, left * horizontal, size * vertical, size * horizontal)


def random_crop(
    key: Array, image: Array, extent: Array, *, sample: Callable[..., Box], size: int,
    method: Method, **limits,
) -> Array:
  """Cuts out `sample(key, extent, **limits)` and resizes it: u8[S, S, C] -> f32[size, size, C]."""
  return crop_and_resize(image, sample(key, extent, **limits), size, extent, method)


def random_resized_crop(
    key: Array, image: Array, extent: Array, *, size: int, area: tuple[float, float] = AREA,
    ratio: tuple[float, float] = RATIO, method: Method = bilinear_antialias,
) -> Array:
  """torchvision's `RandomResizedCrop` on a photograph: u8[S, S, C] -> f32[size, size, C]."""
  return random_crop(
      key, image, extent, sample=sample_box_torchvision, size=size, method=method, area=area,
      ratio=ratio)


def random_resized_crop_byol(
    key: Array, image: Array, extent: Array, *, size: int, area: tuple[float, float] = AREA,
    ratio: tuple[float, float] = RATIO, method: Method = bicubic,
) -> Array:
  """BYOL's random crop: u8[S, S, C] -> f32[size, size, C] in [0, 1], the overshoot cut off."""
  return jnp.clip(random_crop(
      key, image, extent, sample=sample_box_byol, size=size, method=method, area=area,
      ratio=ratio), 0, 1)


def random_resized_crop_tf(
    key: Array, image: Array, extent: Array, *, size: int, area: tuple[float, float] = AREA,
    ratio: tuple[float, float] = RATIO, method: Method = bicubic,
) -> Array:
  """SimCLR's random crop: u8[S, S, C] -> f32[size, size, C].

  The cubic's overshoot beyond [0, 1] stays, as in the original: the first operation that clips
  cuts it off.
  """
  return random_crop(
      key, image, extent, sample=sample_box_tf, size=size, method=method, area=area, ratio=ratio)


def center_crop(
    image: Array, extent: Array, *, size: int, box: Callable[[Array], Box], method: Method
) -> Array:
  """Cuts out `box(extent)` and resizes it, clipped to [0, 1]: u8[S, S, C] -> f32[size, size, C]."""
  return jnp.clip(crop_and_resize(image, box(extent), size, extent, method), 0, 1)


def resize_and_center_crop(
    image: Array, extent: Array, *, size: int, resize: int, method: Method = bilinear_antialias
) -> Array:
  """torchvision's `Resize(resize)`, then `CenterCrop(size)`: u8[S, S, C] -> f32[size, size, C]."""
  box = center_box_torchvision(extent, size=size, resize=resize)
  return jnp.clip(resize_and_crop(image, box, size, extent, method), 0, 1)


def flip(image: Array) -> Array:
  """Swaps left and right: [H, W, C]."""
  return image[:, ::-1]


def random_flip(key: Array, image: Array, *, probability: float = 0.5) -> Array:
  """`flip` with a probability."""
  return jnp.where(jax.random.uniform(key) < probability, flip(image), image)


def _sides(extent):
  extent = jnp.asarray(extent, jnp.float32)
  return extent[0], extent[1]


def _draw(key, attempts):
  """Uniform numbers: f32[2, attempts] for the shape of each attempt and f32[2] for the place."""
  u = jax.random.uniform(key, (2 * attempts + 2,))  # one call: each costs compilation
  return u[:-2].reshape(2, attempts), u[-2:]


def _integer(u, last):
  """Uniform integers in 0 .. last, as floats, from u in [0, 1)."""
  return jnp.minimum(jnp.floor(u * (last + 1)), last)


def _area_and_log_ratio(u, pixels, area, ratio):
  target = pixels * (area[0] + u[0] * (area[1] - area[0]))
  r = jnp.exp(math.log(ratio[0]) + u[1] * math.log(ratio[1] / ratio[0]))
  return jnp.round(jnp.sqrt(target / r)), jnp.round(jnp.sqrt(target * r))


def _first(fits, *values):
  """Whether any fits, and the values of the first that does; a select, not a gather."""
  first = fits & (jnp.cumsum(fits) == 1)
  return jnp.any(fits), tuple(jnp.sum(jnp.where(first, v, 0)) for v in values)


def _center(extent, side):
  full_height, full_width = _sides(extent)
  return Box(jnp.floor((full_height - side + 1) / 2), jnp.floor((full_width - side + 1) / 2),
             side, side)
