"""Cutting a box out of an image and resizing it, by two small interpolation matrices per image.

Matrix units take this, and nothing is gathered. Pixel j covers [j, j + 1) and its centre is at
j + 0.5, as in Pillow, PyTorch (align_corners=False) and TensorFlow 2. Taps that fall outside are
left out and the others are scaled to sum 1, which for bilinear taps repeats the border's pixel.

An image may lie squashed on its canvas: boxes are given in the pixels of the original image, whose
(height, width) is `extent`, and the matrices undo the squashing.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from ssl_jax.types import Array

# (distance of a pixel's centre from the sampled place, places' spacing; in pixels) -> weight
Method = Callable[[Array, Array], Array]
SLACK = 1e-3  # of a canvas pixel: a box's edge that close to a pixel's edge is that edge


class Box(NamedTuple):
  """A rectangle in pixels of the original image, f32[] each."""

  top: Array
  left: Array
  height: Array
  width: Array


def bilinear(distance: Array, spacing: Array) -> Array:
  """Two taps however far apart the places are: `tf.image.resize` without antialias."""
  del spacing
  return jnp.maximum(0, 1 - jnp.abs(distance))


def bilinear_antialias(distance: Array, spacing: Array) -> Array:
  """A triangle that widens when the image shrinks: Pillow, so torchvision on photographs."""
  return bilinear(distance / jnp.maximum(spacing, 1), spacing)


def bicubic(distance: Array, spacing: Array) -> Array:
  """Four taps of Keys' cubic with a = -0.5: `tf.image.resize` without antialias."""
  del spacing
  x = jnp.abs(distance)
  near = (1.5 * x - 2.5) * x * x + 1
  far = ((2.5 - 0.5 * x) * x - 4) * x + 2
  return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))


def bicubic_antialias(distance: Array, spacing: Array) -> Array:
  """Keys' cubic that widens when the image shrinks: Pillow's BICUBIC."""
  return bicubic(distance / jnp.maximum(spacing, 1), spacing)


def crop_and_resize(image: Array, box: Box, size: int, extent: Array, method: Method) -> Array:
  """Cuts the box out, then resizes it: pixels outside the box have no influence.

  Args:
    image: u8[S, S, C], or f32 in [0, 1]; the whole original, squashed onto S x S pixels.
    box: In pixels of the original.
    size: Height and width of the result.
    extent: [2], height and width of the original.
    method: One of `bilinear`, `bicubic` and their `_antialias` forms.

  Returns:
    f32[size, size, C]; in [0, 1] for the bilinear methods, a little beyond for the bicubic ones.
  """
  rows, columns = _spans(box, extent, image.shape)
  return _resample(
      image, _matrix(rows, rows, size, image.shape[0], method),
      _matrix(columns, columns, size, image.shape[1], method))


def resize_and_crop(image: Array, box: Box, size: int, extent: Array, method: Method) -> Array:
  """Resizes the image, then cuts the box out: pixels around the box have influence.

  Takes and returns what `crop_and_resize` does; the box may lie between pixels.
  """
  rows, columns = _spans(box, extent, image.shape)
  return _resample(
      image, _matrix(rows, (0, image.shape[0]), size, image.shape[0], method),
      _matrix(columns, (0, image.shape[1]), size, image.shape[1], method))


def _spans(box, extent, shape):
  """The box on the canvas: (start, length) of its rows and of its columns, in canvas pixels."""
  chex.assert_shape(extent, (2,))
  vertical, horizontal = shape[0] / extent[0], shape[1] / extent[1]
  return ((box.top * vertical, box.height * vertical),
          (box.left * horizontal, box.width * horizontal))


def _matrix(span, within, size, pixels, method):
  """Weights f32[size, pixels] of `size` places spread over `span`, with taps only in `within`."""
  spacing = span[1] / size
  places = span[0] + (jnp.arange(size) + 0.5) * spacing
  weights = method(jnp.arange(pixels) + 0.5 - places[:, None], spacing)
  index = jnp.arange(pixels)
  first = jnp.floor(within[0] + SLACK)
  last = jnp.ceil(within[0] + within[1] - SLACK) - 1
  weights = jnp.where((index >= first) & (index <= last), weights, 0)
  return weights / jnp.sum(weights, axis=1, keepdims=True)


def _resample(image, rows, columns):
  chex.assert_rank(image, 3)
  if image.dtype == jnp.uint8:
    rows = rows / 255
  precision = jax.lax.Precision.HIGH  # TF32 on a GPU, three bf16 passes on a TPU
  image = jnp.transpose(image, (0, 2, 1)).astype(jnp.float32)  # [H, C, W]: no transpose follows
  image = jnp.einsum("hcw,xw->hcx", image, columns, precision=precision)
  image = jnp.einsum("yh,hcx->ycx", rows, image, precision=precision)
  return jnp.transpose(image, (0, 2, 1))
