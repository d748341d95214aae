"""How alike two representations of the same images are: linear centred kernel alignment (CKA)."""

from collections.abc import Iterable, Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.types import Array

EXACT = jax.lax.Precision.HIGHEST
Layers = Mapping[str, Array]  # name -> [B, ...]


@jax.jit
def cka(x: Array, y: Array) -> Array:
  """Linear CKA: |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F) of columns with their means taken out.

  Kornblith et al. 2019, arXiv:1905.00414, section 3. It does not change with a rotation or a
  scaling of either side. With fewer images than dimensions it leans towards 1: see
  `minibatch_cka`.

  Args:
    x: [N, P] representations of N images.
    y: [N, Q] others of the same images.

  Returns:
    f32[] in [0, 1]; 0 if a side is constant.
  """
  chex.assert_rank([x, y], 2)
  chex.assert_equal(x.shape[0], y.shape[0])
  x, y = (_unit(_centred(v)) for v in (x, y))
  if max(x.shape[1], y.shape[1]) > x.shape[0]:  # the same numbers from N x N instead of P x Q
    a, b = _product(x, x.T), _product(y, y.T)
    cross, own_x, own_y = jnp.sum(a * b), jnp.sum(a * a), jnp.sum(b * b)
  else:
    cross, own_x, own_y = (jnp.sum(jnp.square(_product(a.T, b)))
                           for a, b in ((x, y), (x, x), (y, y)))
  return cross / jnp.maximum(jnp.sqrt(own_x) * jnp.sqrt(own_y), 1e-30)


@jax.jit
def hsic(x: Array, y: Array) -> Array:
  """The unbiased estimate of HSIC with linear kernels, from N >= 4 images.

  Song et al. 2012, "Feature selection via dependence maximization", equation 5, in the form of
  Szekely and Rizzo 2014: the product of U-centred Gram matrices over N (N - 3). It is 0 on average
  for independent x and y, so it may be negative.

  Args:
    x: [N, P].
    y: [N, Q].

  Returns:
    f32[].
  """
  chex.assert_rank([x, y], 2)
  chex.assert_equal(x.shape[0], y.shape[0])
  return jnp.sum(_u_centred(x) * _u_centred(y)) / (len(x) * (len(x) - 3))


def minibatch_cka(batches: Iterable[tuple[Layers, Layers]]) -> dict[tuple[str, str], float]:
  """Linear CKA of every pair of layers from batches, free of the bias of small ones.

  Nguyen et al. 2020, arXiv:2010.15327, equation 2: unbiased HSIC is averaged over batches, and
  the averages are divided.

  Args:
    batches: For each batch, of one size and at least 4 images, the layers of two encoders on the
      same images; all axes of a layer but the first are made one.

  Returns:
    {(layer of the first, layer of the second): CKA}, at most about 1, near 0 if independent.

  Raises:
    UserError: A batch has fewer than 4 images, or there is none.
  """
  total = None
  for left, right in batches:
    names = tuple(left), tuple(right)
    count = len(next(iter(left.values())))
    if count < 4:
      raise UserError(f"a batch of {count} images is too small for unbiased CKA; give at least 4")
    sums = _products(tuple(left.values()), tuple(right.values()))
    total = sums if total is None else jax.tree.map(jnp.add, total, sums)
  if total is None:
    raise UserError("CKA was given no images")
  cross, own_left, own_right = (np.asarray(v, np.float64) for v in total)
  scale = np.sqrt(np.maximum(own_left, 0)[:, None] * np.maximum(own_right, 0))
  value = cross / np.maximum(scale, 1e-30)
  return {(a, b): float(value[i, j])
          for i, a in enumerate(names[0]) for j, b in enumerate(names[1])}


@jax.jit
def _products(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, Array, Array]:
  """HSIC, but for a factor of the batch's size, of L with R layers, and of each with itself."""
  x, y = (jnp.stack([_u_centred(v.reshape(len(v), -1)) for v in side]) for side in (left, right))
  return (jnp.einsum("lij,rij->lr", x, y, precision=EXACT),
          jnp.sum(x * x, (1, 2)), jnp.sum(y * y, (1, 2)))


def _u_centred(x: Array) -> Array:
  """The Gram matrix f32[N, N] without its diagonal, its rows and columns summing to 0."""
  n = len(x)
  x = _centred(x)  # changes nothing but the rounding
  off_diagonal = 1 - jnp.eye(n)
  gram = _product(x, x.T) * off_diagonal
  rows = gram.sum(0) / (n - 2)
  return (gram - rows - rows[:, None] + rows.sum() / (n - 1)) * off_diagonal


def _centred(x: Array) -> Array:
  x = x.astype(jnp.float32)
  return x - x.mean(0)


def _unit(x: Array) -> Array:
  """Scaled so that a fourth power neither overflows nor vanishes."""
  return x / jnp.maximum(jnp.max(jnp.abs(x)), 1e-30)


def _product(x: Array, y: Array) -> Array:
  return jnp.matmul(x, y, precision=EXACT)
