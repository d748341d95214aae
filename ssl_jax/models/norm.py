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


def moments(x: Array) -> tuple[Array, Array]:
  """Mean f32[G,C] and biased variance f32[G,C] of x f[G,N,...,C] over all axes between.

  Reads the pixels once, for each sample's mean and mean square; the samples are then combined
  exactly (Chan et al. 1979: within plus between). E[x^2] - E[x]^2 over everything would lose the
  variance of a channel whose mean is large beside its deviation, as that of pooled features is; it
  stands here only within a sample and after subtraction of that sample's first pixel.
  """
  x = x.reshape(*x.shape[:2], -1, x.shape[-1]).astype(jnp.float32)  # [G,N,P,C]
  first = jax.lax.stop_gradient(x[:, :, :1])
  d = x - first
  centre = d.mean(2)  # [G,N,C]
  within = (jnp.square(d).mean(2) - jnp.square(centre)).mean(1)
  centre = centre + first[:, :, 0]
  mean = centre.mean(1)
  # The sum of deviations from the mean is zero, so the mean's own derivative vanishes here.
  between = jnp.square(centre - jax.lax.stop_gradient(mean)[:, None]).mean(1)
  return mean, jnp.maximum(within + between, 0.0)


def normalize(x: Array, mean: Array, var: Array, scale: Array, bias: Array, eps: float) -> Array:
  """(x - mean) / sqrt(var + eps) * scale + bias in f32, for x f[G,...,C] and moments f32[G,C]."""
  shape = mean.shape[:1] + (1,) * (x.ndim - 2) + mean.shape[-1:]
  factor = (jax.lax.rsqrt(var + eps) * scale).reshape(shape)
  return (x.astype(jnp.float32) - mean.reshape(shape)) * factor + bias


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
    scale_init: Initialiser of the scale f32[C].
    decay: Of the running averages.
    eps: Added to the variance.
    dtype: Of the result.
  """

  group_size: int | None = None
  use_bias: bool = True
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
    scale = self.param("scale", self.scale_init, channels, jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, channels) if self.use_bias else jnp.zeros(())
    if not train:
      y = normalize(x[None], mean.value[None], var.value[None], scale, bias, self.eps)
      return y[0].astype(self.dtype)
    # Initialisation looks at shapes only, so that any batch will do there.
    size = x.shape[0] if self.is_initializing() else self.group_size or x.shape[0]
    grouped = group(x, size)
    means, variances = moments(grouped)
    if not self.is_initializing():
      # Not "+=": that would write into the caller's array where it is a numpy one.
      mean.value = self.decay * mean.value + (1 - self.decay) * means.mean(0)
      var.value = self.decay * var.value + (1 - self.decay) * variances.mean(0)
    y = normalize(grouped, means, variances, scale, bias, self.eps)
    return y.reshape(x.shape).astype(self.dtype)


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
