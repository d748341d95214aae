"""Gaussian blur of one image f32[H, W, C], separable, with a fixed number of taps.

Each image has its own sigma, so that a batched convolution would have a group for each image.
Two equal forms stand in for it: a sum of shifted images, which is the faster on a CPU (2.5 times
at 224 pixels), and two banded matrix products, which run on the matrix units of a GPU or TPU.
`jax.lax.platform_dependent` chooses when the program is lowered.
"""

import jax
import jax.numpy as jnp

from ssl_jax.types import Array

SIGMA = (0.1, 2.0)  # the range of SimCLR, BYOL and MoCo v2, in pixels of the view


def radius_of(size: int) -> int:
  """Taps on either side for a view of `size` pixels: a kernel of a tenth of it (SimCLR, BYOL)."""
  return int(size / 10 / 2)


def taps(sigma: Array, radius: int) -> Array:
  """Gaussian weights at -radius .. radius, with sum 1: f32[2 * radius + 1]."""
  weights = jnp.exp(-0.5 * (jnp.arange(-radius, radius + 1) / sigma) ** 2)
  return weights / jnp.sum(weights)


def adjust_blur(image: Array, sigma: Array, *, radius: int) -> Array:
  """Blurs with zeros beyond the border, which darkens it (SimCLR, BYOL: 'SAME' padding)."""
  weights = taps(sigma, radius)
  return jax.lax.platform_dependent(image, weights, cpu=by_shifts, default=by_matrices)


def adjust_blur_extended(image: Array, sigma: Array, *, radius: int) -> Array:
  """Blurs with the border's pixels repeated beyond it (Pillow's `GaussianBlur`, MoCo v2)."""
  weights = taps(sigma, radius)
  return jax.lax.platform_dependent(
      image, weights, cpu=extended_by_shifts, default=extended_by_matrices)


def random_blur(
    key: Array, image: Array, *, sigma: tuple[float, float] = SIGMA, radius: int | None = None
) -> Array:
  """`adjust_blur` by sigma from U(sigma); the kernel is a tenth of the height unless told.

  SimCLR draws one sigma for all images of a device, BYOL one for each; here it is one for each,
  so that the draw does not depend on the devices.
  """
  radius = radius_of(image.shape[0]) if radius is None else radius
  drawn = jax.random.uniform(key, minval=sigma[0], maxval=sigma[1])
  return adjust_blur(image, drawn, radius=radius)


def random_blur_extended(
    key: Array, image: Array, *, sigma: tuple[float, float] = SIGMA, radius: int | None = None
) -> Array:
  """`adjust_blur_extended` by sigma from U(sigma); the kernel ends at 3 sigma unless told."""
  radius = int(3 * sigma[1] + 0.5) if radius is None else radius
  drawn = jax.random.uniform(key, minval=sigma[0], maxval=sigma[1])
  return adjust_blur_extended(image, drawn, radius=radius)


def by_shifts(image: Array, weights: Array) -> Array:
  """The blur with zeros beyond the border, as a sum of shifted images for each axis."""
  radius = weights.shape[0] // 2
  for axis in (1, 0):
    pads = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
    image = _sum_of_shifts(jnp.pad(image, pads), weights, axis)
  return jax.lax.optimization_barrier(image)


def extended_by_shifts(image: Array, weights: Array) -> Array:
  """The blur with the border repeated, as a sum of shifted images for each axis."""
  radius = weights.shape[0] // 2
  for axis in (1, 0):
    size = image.shape[axis]
    first = jax.lax.slice_in_dim(image, 0, 1, axis=axis)
    last = jax.lax.slice_in_dim(image, size - 1, size, axis=axis)
    before, after = jnp.repeat(first, radius, axis), jnp.repeat(last, radius, axis)
    image = _sum_of_shifts(jnp.concatenate([before, image, after], axis), weights, axis)
  return jax.lax.optimization_barrier(image)


def by_matrices(image: Array, weights: Array) -> Array:
  """The blur with zeros beyond the border, as two banded matrix products."""
  height, width, _ = image.shape
  return _product(image, _band(weights, height), _band(weights, width))


def extended_by_matrices(image: Array, weights: Array) -> Array:
  """The blur with the border repeated, as two banded matrix products."""
  def matrix(size):
    before = _beyond(weights, size)
    first, last = jnp.arange(size) == 0, jnp.arange(size) == size - 1
    return _band(weights, size) + before[:, None] * first + before[::-1, None] * last

  return _product(image, matrix(image.shape[0]), matrix(image.shape[1]))


def _sum_of_shifts(padded, weights, axis):
  radius = weights.shape[0] // 2
  size = padded.shape[axis] - 2 * radius
  # Without barriers, here and at the end, XLA computes the taps again for every later use.
  padded = jax.lax.optimization_barrier(padded)
  shifted = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(2 * radius + 1)]
  total = weights[radius] * shifted[radius]
  for i in range(radius):  # the weights are symmetric: half the products
    total = total + weights[i] * (shifted[i] + shifted[-1 - i])
  return total


def _beyond(weights, size):
  """The weight of the taps that lie before the first pixel, for each of `size` places."""
  offset = jnp.arange(weights.shape[0]) - weights.shape[0] // 2
  before = offset + jnp.arange(size)[:, None] < 0
  return jnp.sum(jnp.where(before, weights, 0), axis=1)


def _band(weights, size):
  """f32[size, size]: row i holds the taps around place i, as many as there are pixels."""
  offset = jnp.arange(size) - jnp.arange(size)[:, None]
  radius = weights.shape[0] // 2
  band = jnp.zeros((size, size), weights.dtype)
  for i in range(2 * radius + 1):
    band = jnp.where(offset == i - radius, weights[i], band)
  return band


def _product(image, rows, columns):
  precision = jax.lax.Precision.HIGH  # TF32 on a GPU, three bf16 passes on a TPU
  image = jnp.transpose(image, (0, 2, 1))  # [H, C, W]: both products then need no transpose
  image = jnp.einsum("hcw,xw->hcx", image, columns, precision=precision)
  image = jnp.einsum("yh,hcx->ycx", rows, image, precision=precision)
  return jnp.transpose(image, (0, 2, 1))
