"""Convolution and max-pooling over f[B,H,W,C], with both paddings of the literature.

`torch` pads symmetrically by k // 2; `same` is TensorFlow's rule, which pads an even input more
after than before when the stride is 2 (a 224-pixel stem: 2 before, 3 after). With stride 1 and odd
kernels the two agree.
"""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.types import Array

Padding = tuple[tuple[int, int], tuple[int, int]]
NO_PADDING: Padding = ((0, 0), (0, 0))
NHWC = ("NHWC", "HWIO", "NHWC")
CHUNK = 32  # samples of a chunk of the CPU's kernel gradient: 16 to 64 are alike


def symmetric_padding(size: tuple[int, int], kernel: int, stride: int) -> Padding:
  """PyTorch's padding of k // 2 on every side, whatever the image size and the stride."""
  del size, stride
  return ((kernel // 2, kernel // 2),) * 2


def same_padding(size: tuple[int, int], kernel: int, stride: int) -> Padding:
  """TensorFlow's SAME: the output has ceil(size / stride) pixels, the odd pixel goes after."""
  def one(n):
    total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
    return total // 2, total - total // 2
  return one(size[0]), one(size[1])


def conv(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
  """Cross-correlation of x f[B,H,W,C] with kernel f[k,k,C,D]: f[B,h,w,D]."""
  if kernel.shape[:2] == (1, 1) and padding == NO_PADDING:
    x = x[:, ::stride, ::stride]
    # Two-dimensional, so that the derivative by the kernel is a plain matrix product as well.
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)
  return _conv(x, kernel, stride, padding)


def lax_conv(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
  """The same, by XLA's own convolution."""
  return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=NHWC)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x, kernel, stride, padding):
  return lax_conv(x, kernel, stride, padding)


def _forward(x, kernel, stride, padding):
  return _conv(x, kernel, stride, padding), (x, kernel)


def _backward(stride, padding, residuals, dy):
  def default(x, kernel, dy):
    return jax.vjp(lambda x, kernel: lax_conv(x, kernel, stride, padding), x, kernel)[1](dy)

  def cpu(x, kernel, dy):
    return (image_gradient(x.shape, kernel, dy, stride, padding),
            kernel_gradient(x, kernel.shape, dy, stride, padding))

  return jax.lax.platform_dependent(*residuals, dy, cpu=cpu, default=default)


_conv.defvjp(_forward, _backward)


def image_gradient(shape: tuple[int, ...], kernel: Array, dy: Array, stride: int,
                   padding: Padding) -> Array:
  """The derivative by the images, f[B,H,W,C] of that `shape`: dy with the kernel turned around.

  It is what jax.vjp gives but for the layout, which XLA's CPU backend (jaxlib 0.10) brings into
  the fast form only outside of loops; within one, its own is 30 times slower.
  """
  k = kernel.shape[0]
  def pad(n, m, before):
    return k - 1 - before, n - 1 + before - (m - 1) * stride
  sides = [pad(n, m, p[0]) for n, m, p in zip(shape[1:3], dy.shape[1:3], padding)]
  return jax.lax.conv_general_dilated(
      dy, kernel[::-1, ::-1].swapaxes(2, 3), (1, 1), sides, lhs_dilation=(stride, stride),
      dimension_numbers=NHWC)


def kernel_gradient(x: Array, shape: tuple[int, ...], dy: Array, stride: int,
                    padding: Padding) -> Array:
  """The derivative by the kernel, f[k,k,C,D] of that `shape`, summed over chunks of the batch.

  It is a convolution whose window is the whole of dy and whose features are the samples. XLA's CPU
  backend streams the batch from memory once for each few of the results: over chunks that fit into
  the cache it is three to five times faster (benchmarks/convolution.py). Chunk i holds the samples
  i, i + n, i + 2n, ..., so that a sharded batch stays where it is.
  """
  chunk = math.gcd(len(x), CHUNK)
  if chunk < CHUNK // 4:
    chunk = len(x)
  sides = []
  for n, m, (before, _) in zip(x.shape[1:3], dy.shape[1:3], padding):
    sides.append((before, (m - 1) * stride + shape[0] - n - before))

  def of_chunk(x, dy):
    return jax.lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), (1, 1), sides,
        rhs_dilation=(stride, stride), dimension_numbers=NHWC,
        preferred_element_type=jnp.float32).transpose(1, 2, 0, 3)

  if chunk == len(x):
    return of_chunk(x, dy).astype(x.dtype)
  x, dy = (a.reshape(chunk, -1, *a.shape[1:]) for a in (x, dy))
  def add(total, i):
    part = (jax.lax.dynamic_index_in_dim(a, i, 1, keepdims=False) for a in (x, dy))
    return total + of_chunk(*part), None
  total = jax.lax.scan(add, jnp.zeros(shape, jnp.float32), jnp.arange(x.shape[1]))[0]
  return total.astype(x.dtype)


def max_pool(x: Array, size: int, stride: int, padding: Padding) -> Array:
  """Maximum over size x size windows of x f[B,H,W,C]; the padding never wins."""
  return nn.max_pool(x, (size, size), (stride, stride), padding)


class Conv(nn.Module):
  """A convolution without bias: f[B,H,W,C] -> f[B,h,w,channels], computed in `dtype`.

  Attributes:
    channels: Output channels D.
    kernel: Side of the square kernel, odd.
    stride: Step of the output grid.
    padding: `(size, kernel, stride) -> ((top, bottom), (left, right))`.
    kernel_init: Initialiser of the kernel f32[k,k,C,D].
    dtype: Compute dtype; the parameter is f32.
  """

  channels: int
  kernel: int
  stride: int = 1
  padding: Callable[[tuple[int, int], int, int], Padding] = symmetric_padding
  kernel_init: Callable = nn.initializers.lecun_normal()
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    k = self.kernel
    kernel = self.param("kernel", self.kernel_init, (k, k, x.shape[-1], self.channels), jnp.float32)
    padding = self.padding(x.shape[1:3], k, self.stride)
    return conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, padding)
