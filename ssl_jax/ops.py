"""Array operations that losses, methods and evaluations share: pure, on global arrays."""

import chex
import jax
import jax.numpy as jnp

from ssl_jax.types import Array


def l2_normalize(x: Array, epsilon: float = 1e-12) -> Array:
  """Returns `x` with its last axis at unit length, as f32.

  The form of BYOL's code, x * rsqrt(max(sum x^2, epsilon)). Torch's x / max(|x|, 1e-12) differs
  only for |x| < 1e-6, where this one stays smooth: the gradient at zero is finite.

  Args:
    x: [..., D].
    epsilon: The least squared length that is divided by.

  Returns:
    f32[..., D].
  """
  x = x.astype(jnp.float32)
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, epsilon))


def inner_products(x: Array, y: Array) -> Array:
  """Returns f32[M, N], the inner products of the rows of x [M, D] and y [N, D], in full f32.

  Accelerators multiply f32 matrices in bf16 or TF32 unless told otherwise; after division by a
  temperature of 0.07 that error reaches the loss.
  """
  return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def random_unit(key: Array, shape: tuple[int, ...]) -> Array:
  """Draws points uniformly on the unit sphere of the last axis: how MoCo's queue starts.

  He et al. 2019, arXiv:1911.05722 (code): N(0, 1) rows, each scaled to unit length.
  """
  return l2_normalize(jax.random.normal(key, shape))


def queue_push(queue: Array, pointer: Array, new: Array) -> tuple[Array, Array]:
  """Overwrites the oldest entries of a ring with new ones.

  The writes wrap around, so K need not be a multiple of B; when B exceeds K the last K stay.

  Args:
    queue: [K, ...] the ring, the same on every device.
    pointer: i32[] the place of the oldest entry.
    new: [B, ...] what to store; the order of the rows is the order of age.

  Returns:
    The new queue and the new pointer.
  """
  chex.assert_equal(queue.shape[1:], new.shape[1:])
  size, count = queue.shape[0], new.shape[0]
  kept = min(count, size)
  places = (pointer + (count - kept) + jnp.arange(kept)) % size
  queue = queue.at[places].set(new[count - kept:].astype(queue.dtype), unique_indices=True)
  return queue, (pointer + count) % size


def shuffle(key: Array, count: int) -> tuple[Array, Array]:
  """Draws a permutation of `count` rows and the one that undoes it.

  `x[permutation][inverse]` is `x`. MoCo shuffles the key batch so that grouped BatchNorm cannot
  tell a key by the company it keeps (He et al. 2019, arXiv:1911.05722, section 3.3). The key
  must not depend on the device.

  Returns:
    Two i32[count].
  """
  permutation = jax.random.permutation(key, count)
  return permutation, jnp.argsort(permutation)
