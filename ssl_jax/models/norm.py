"""BatchNorm whose statistics belong to the global batch or to contiguous groups of it.

Both are written over the global batch, without axis names: on a sharded batch the global one is
cross-device ("sync") BatchNorm, and the grouped one has the semantics of per-device BatchNorm
whatever the number of devices; with whole groups on every device it needs no communication. MoCo's
shuffling BatchNorm (He et al. 2020, section 3.3) is the grouped one plus a permutation of the key
images, which is the method's business.

Constants: decay 0.9 and eps 1e-5 (He et al. 2016; BYOL and SimCLR use the same; torch's
momentum of 0.1 is a decay of 0.9). The variance is the biased one, in the running average as well.
"""

import functools
from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError, nearest
from ssl_jax.types import Array


def moments(x: Array) -> tuple[Array, Array, Array]:
  """Moments over all axes of x f[G,N,...,C] but the first and the last; the variance is biased.

  Reads the pixels once, for each sample's mean and mean square, and combines the samples exactly
  (Chan et al. 1979: the variance within plus the variance between). E[x^2] - E[x]^2 over everything
  would lose the variance of a channel whose mean is large beside its deviation, as that of pooled
  features is; here that difference stays within a sample, and is exactly 0 where it is one pixel.

  Returns:
    mean f32[G,C], variance f32[G,C] and the samples' means f32[G,N,C].
  """
  x = x.astype(jnp.float32)
  pixels = tuple(range(2, x.ndim - 1))
  centre = x.mean(pixels)
  within = (jnp.square(x).mean(pixels) - jnp.square(centre)).mean(1)
  mean = centre.mean(1)
  between = jnp.square(centre - mean[:, None]).mean(1)
  return mean, jnp.maximum(within + between, 0.0), centre


def affine(x: Array, mean: Array, factor: Array, bias: Array) -> Array:
  """(x - mean) * factor + bias in f32, for x f[G,N,...,C], f32[G,C] twice, and f32[C]."""
  shape = mean.shape[:1] + (1,) * (x.ndim - 2) + mean.shape[-1:]
  return (x.astype(jnp.float32) - mean.reshape(shape)) * factor.reshape(shape) + bias


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalize(x: Array, scale: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
  """Normalises every group of x f[G,N,...,C] by its own moments, then scales and shifts.

  The derivative is written out, which reads x and dy twice and nothing else: on a CPU it takes a
  quarter of the time of the derived one, whose reductions are not XLA's fast kind.

  Returns:
    y f[G,N,...,C] of the dtype of x, and the moments f32[G,C], which carry no gradient.
  """
  return _normalize_forward(x, scale, bias, eps)[0]


def _normalize_forward(x, scale, bias, eps):
  mean, var, centre = moments(x)
  inverse = jax.lax.rsqrt(var + eps)
  y = affine(x, mean, inverse * scale, bias).astype(x.dtype)
  return (y, mean, var), (x, mean, inverse, centre, scale)


def _normalize_backward(eps, residuals, cotangents):
  """Ioffe and Szegedy 2015, section 3: dx = scale/s * (dy - mean(dy) - xhat * mean(dy * xhat))."""
  del eps
  x, mean, inverse, centre, scale = residuals
  dy = cotangents[0].astype(jnp.float32)
  pixels = tuple(range(2, x.ndim - 1))
  dy_sum = dy.sum(pixels)  # f32[G,N,C]
  # sum dy * (x - mean), as in `moments`: within a sample, and between the samples.
  within = (dy * x.astype(jnp.float32)).sum(pixels) - centre * dy_sum
  between = (centre - mean[:, None]) * dy_sum
  d_bias = dy_sum.sum(1)  # f32[G,C]
  d_scale = (within + between).sum(1) * inverse
  count = x.size // (x.shape[0] * x.shape[-1])
  shape = mean.shape[:1] + (1,) * (x.ndim - 2) + mean.shape[-1:]
  factor = scale * inverse
  slope = -factor * inverse * d_scale / count
  dx = affine(x, mean, slope, -(factor * d_bias / count).reshape(shape))
  dx = dx + dy * factor.reshape(shape)
  return dx.astype(x.dtype), d_scale.sum(0), d_bias.sum(0)


normalize.defvjp(_normalize_forward, _normalize_backward)


def group(x: Array, size: int) -> Array:
  """Splits a batch f[B,...] into f[B/size,size,...]: group j holds samples j*size to (j+1)*size."""
  if x.shape[0] % size:
    raise UserError(f"norm: a batch of {x.shape[0]} does not split into BatchNorm groups of {size};"
                    " choose a group size that divides the batch, or 'global'")
  return x.reshape(-1, size, *x.shape[1:])


class BatchNorm(nn.Module):
  """f[B,...,C] -> f[B,...,C]; statistics and parameters are f32, whatever `dtype`.

  While training, every group is normalised by its own mean and variance, and the running
  averages move by (1 - decay) towards the mean over the groups of both. In evaluation the running
  averages are used. Parameters are "scale" and "bias", statistics "mean" and "var".

  Attributes:
    group_size: Samples that share statistics, contiguous in the batch; None is the whole batch.
    use_bias: Whether a bias is learned (the last layer of SimCLR's head has none).
    use_scale: Whether a scale is learned (the last layer of MoCo v3's head has neither).
    scale_init: Initialiser of the scale f32[C].
    decay: Of the running averages.
    eps: Added to the variance.
    dtype: Of the result.
  """

  group_size: int | None = None
  use_bias: bool = True
  use_scale: bool = True
  scale_init: Callable = nn.initializers.ones
  decay: float = 0.9
  eps: float = 1e-5
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    chex.assert_rank(x, {2, 3, 4})
    channels = x.shape[-1:]
    mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
    var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
    scale, bias = jnp.ones(channels), jnp.zeros(channels)
    if self.use_scale:
      scale = self.param("scale", self.scale_init, channels, jnp.float32)
    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
    x = x.astype(self.dtype)
    if not train:
      factor = jax.lax.rsqrt(var.value + self.eps) * scale
      return affine(x[None], mean.value[None], factor[None], bias)[0].astype(self.dtype)
    # Initialisation looks at shapes only, so that any batch will do there.
    size = x.shape[0] if self.is_initializing() else self.group_size or x.shape[0]
    y, means, variances = normalize(group(x, size), scale, bias, self.eps)
    if not self.is_initializing():
      # Not "+=": that would write into the caller's array where it is a numpy one.
      mean.value = self.decay * mean.value + (1 - self.decay) * means.mean(0)
      var.value = self.decay * var.value + (1 - self.decay) * variances.mean(0)
    return y.reshape(x.shape)


def batch_norm(norm: str | int, dtype=jnp.float32) -> Callable[..., BatchNorm]:
  """The maker of a network's norms: "global", or the group size as a positive number.

  Raises:
    UserError: for anything else.
  """
  if norm == "global":
    return functools.partial(BatchNorm, dtype=dtype)
  if isinstance(norm, int) and norm > 0:
    return functools.partial(BatchNorm, group_size=norm, dtype=dtype)
  raise UserError(f"norm: {norm!r} is neither 'global' nor a positive group size; "
                  + nearest(str(norm), ["global"]))
