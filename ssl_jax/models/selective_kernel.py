"""Selective kernels: two convolutions, and for each image and channel a choice between them."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.types import Array


class SelectiveKernel(nn.Module):
  """f[B,H,W,C] -> f[B,h,w,channels]: a convex combination of two 3x3 streams, after their ReLU.

  Its weights are a softmax over both streams for each image and channel, from the mean over the
  pixels of their sum through a hidden layer. Li et al. 2019, arXiv:1903.06586, in the form of
  SimCLR v2 (Chen et al. 2020b, arXiv:2006.10029, code), whose kernels are both 3x3.

  Attributes:
    channels: Output channels.
    stride: Step of the output grid.
    conv: Maker of a convolution `(channels, kernel, stride, name)`.
    norm: Maker of a norm.
    ratio: Hidden channels as a share of the output's.
    least: The least number of hidden channels.
  """

  channels: int
  stride: int
  conv: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]
  ratio: float = 0.0625
  least: int = 32

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    x = self.conv(2 * self.channels, 3, self.stride, name="conv")(x)
    x = nn.relu(self.norm(name="norm")(x, train))
    streams = x.reshape(*x.shape[:-1], 2, self.channels)
    pooled = streams.sum(-2).mean((1, 2), keepdims=True)  # [B,1,1,channels]
    hidden = max(int(self.channels * self.ratio), self.least)
    pooled = self.conv(hidden, 1, 1, name="hidden_conv")(pooled)
    pooled = nn.relu(self.norm(name="hidden_norm")(pooled, train))
    logits = self.conv(2 * self.channels, 1, 1, name="choice_conv")(pooled)
    logits = logits.reshape(-1, 1, 1, 2, self.channels).astype(jnp.float32)
    return (streams * jax.nn.softmax(logits, axis=-2).astype(x.dtype)).sum(-2)
