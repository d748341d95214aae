"""Convolution and max-pooling over f[B,H,W,C], with both paddings of the literature.

`torch` pads symmetrically by k // 2; `same` is TensorFlow's rule, which pads an even input more
after than before when the stride is 2 (a 224-pixel stem: 2 before, 3 after). With stride 1 and odd
kernels the two agree.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.types import Array

Padding = tuple[tuple[int, int], tuple[int, int]]


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
  if kernel.shape[:2] == (1, 1):  # a matrix product, which XLA does not always see by itself
    return x[:, ::stride, ::stride] @ kernel[0, 0]
  return jax.lax.conv_general_dilated(
      x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


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
