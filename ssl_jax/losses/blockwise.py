"""The contrastive losses without their matrix: memory O(B x block) instead of O(B^2).

Every function has the value, the gradient and the arguments of the one of the same name in
`contrastive`. The candidates pass by in blocks, and of a block only figures of its rows are kept,
such as the streaming log-sum-exp of Milakov and Gimelshein 2018, arXiv:1805.02867. The backward
pass computes the blocks again, as Dao et al. 2022 do, arXiv:2205.14135.

Where an embedding is anchor and candidate, the matrix is symmetric, and the gradient of row i is
sum_j (w_ij + w_ji) z_j with both weights computed from one logit: three matrix products in all, as
many as the dense form takes, and on a sharded batch no sum over devices. Every device gathers a
block when its turn comes: a ring of `ppermute` sends as many bytes, holds more and needs the mesh
(`python -m benchmarks.ring`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ssl_jax.losses.contrastive import MASKED
from ssl_jax.ops import l2_normalize
from ssl_jax.types import Array

BLOCK = 512  # candidates that are compared at once
Tags = Any  # what is known of the rows, or of the columns: a tree of [M], or of [N]
Keep = Callable[[Tags, Tags], Array]  # tags [M, 1] and [1, n] -> which pairs count, bool[M, n]


def nt_xent(a: Array, b: Array, temperature: float) -> Array:
  """`contrastive.nt_xent`: of [B, D] and [B, D], f32[]."""
  positive, images, z = _two_views(a, b, temperature)
  (negative,) = rows_of_own(((LOG_MASS, _apart),), z, images)
  # Twice the mean over 2B anchors is the mean over one view plus that over the other.
  return 2 * jnp.mean(jax.nn.softplus(negative - positive))


def nt_xent_mean(a: Array, b: Array, temperature: float) -> Array:
  """`contrastive.nt_xent_mean`."""
  return nt_xent(a, b, temperature) / 2


def nt_xent_accuracy(a: Array, b: Array) -> Array:
  """`contrastive.nt_xent_accuracy`, in percent."""
  positive, images, z = _two_views(a, b, 1.0)
  (nearest,) = rows_of_own(((LARGEST, _apart),), z, images)
  return 100.0 * jnp.mean(positive > nearest)


def info_nce(query: Array, key: Array, queue: Array, temperature: float) -> Array:
  """`contrastive.info_nce`: of [B, D], [B, D] and a queue [K, D], f32[]."""
  positive, query, queue = _with_queue(query, key, queue, temperature)
  (negative,) = rows_of(((LOG_MASS, _all),), query, queue, (), ())
  return jnp.mean(jax.nn.softplus(negative - positive))


def info_nce_accuracy(query: Array, key: Array, queue: Array) -> Array:
  """`contrastive.info_nce_accuracy`, in percent."""
  positive, query, queue = _with_queue(query, key, queue, 1.0)
  (nearest,) = rows_of(((LARGEST, _all),), query, queue, (), ())
  return 100.0 * jnp.mean(positive > nearest)


def batch_info_nce(query: Array, key: Array, temperature: float) -> Array:
  """`contrastive.batch_info_nce`: of [B, D] and [B, D], f32[]."""
  positive, query, key = _with_queue(query, key, l2_normalize(key), temperature)
  image = jnp.arange(len(query))
  (negative,) = rows_of(((LOG_MASS, _apart),), query, key, image, image)
  return 2 * temperature * jnp.mean(jax.nn.softplus(negative - positive))


def batch_info_nce_accuracy(query: Array, key: Array) -> Array:
  """`contrastive.batch_info_nce_accuracy`, in percent."""
  positive, query, key = _with_queue(query, key, l2_normalize(key), 1.0)
  image = jnp.arange(len(query))
  (nearest,) = rows_of(((LARGEST, _apart),), query, key, image, image)
  return 100.0 * jnp.mean(positive > nearest)


def supervised_contrastive_queue(query: Array, labels: Array, queue: Array, queue_labels: Array,
                                 temperature: float) -> Array:
  """`contrastive.supervised_contrastive_queue`: of [B, D], i32[B], [K, D] and i32[K], f32[]."""
  chex.assert_rank([query, queue, labels, queue_labels], [2, 2, 1, 1])
  mass, total, count = rows_of(
      ((LOG_MASS, _all), (TOTAL, _same_class), (COUNT, _same_class)),
      l2_normalize(query) / temperature, queue.astype(jnp.float32), labels, queue_labels)
  return -jnp.mean((total - count * mass) / (count + 1e-5))


def supervised_contrastive(features: Array, labels: Array, temperature: float,
                           base_temperature: float) -> Array:
  """`contrastive.supervised_contrastive`: of [B, V, D] and i32[B], f32[]."""
  z, tags = _labelled(features, labels, temperature)
  mass, total, count = rows_of_own(
      ((LOG_MASS, _others), (TOTAL, _positives), (COUNT, _positives)), z, tags)
  mean = (total - count * mass) / jnp.maximum(count, 1)
  return -temperature / base_temperature * jnp.mean(mean)


def supervised_contrastive_in(features: Array, labels: Array, temperature: float,
                              base_temperature: float) -> Array:
  """`contrastive.supervised_contrastive_in`: of [B, V, D] and i32[B], f32[]."""
  z, tags = _labelled(features, labels, temperature)
  mass, inside, count = rows_of_own(
      ((LOG_MASS, _others), (LOG_MASS, _positives), (COUNT, _positives)), z, tags)
  mean = jnp.where(count > 0, inside - mass - jnp.log(jnp.maximum(count, 1)), 0.0)
  return -temperature / base_temperature * jnp.mean(mean)


def _two_views(a, b, temperature):
  """The positives' logits f32[2B], each row's image i32[2B], and both views f32[2B,D]."""
  chex.assert_rank([a, b], 2)
  chex.assert_equal_shape([a, b])
  B, D = a.shape
  # Image-major: a sharded batch stays where it is. Half of the temperature falls on each factor.
  pair = jnp.stack([l2_normalize(a), l2_normalize(b)], axis=1) / jnp.sqrt(temperature)
  positive = jnp.sum(pair[:, 0] * pair[:, 1], axis=-1)
  return jnp.repeat(positive, 2), jnp.repeat(jnp.arange(B), 2), pair.reshape(2 * B, D)


def _with_queue(query, key, queue, temperature):
  """The positives' logits f32[B], the queries [B,D] over the temperature, the candidates [K,D]."""
  chex.assert_rank([query, key, queue], 2)
  chex.assert_equal_shape([query, key])
  chex.assert_equal(query.shape[1], queue.shape[1])
  query, key = l2_normalize(query) / temperature, l2_normalize(jax.lax.stop_gradient(key))
  return jnp.sum(query * key, axis=-1), query, queue.astype(jnp.float32)


def _labelled(features, labels, temperature):
  """Rows f32[B V, D] with their tags: number, image and label."""
  chex.assert_rank([features, labels], [3, 1])
  B, V, D = features.shape
  chex.assert_equal(labels.shape[0], B)
  z = (l2_normalize(features) / jnp.sqrt(temperature)).reshape(B * V, D)
  return z, (jnp.arange(B * V), jnp.repeat(jnp.arange(B), V), jnp.repeat(labels, V))


def _all(rows, columns):
  del rows, columns
  return True


def _apart(rows, columns):
  return rows != columns


def _others(rows, columns):
  return rows[0] != columns[0]


def _same_class(rows, columns):
  return (rows == columns) & (rows >= 0)


def _positives(rows, columns):
  return (_same_class(rows[2], columns[2]) | (rows[1] == columns[1])) & _others(rows, columns)


class Statistic(NamedTuple):
  """A figure of every row of a matrix of logits, gathered block by block.

  Attributes:
    start: What it is before the first block.
    add: `(state, logits f32[M,n], kept bool[M,n]) -> state`.
    value: `state -> f32[M]`.
    weight: `(value f32[M,1], logits, kept) -> f32[M,n]`, the derivative by each logit.
  """

  start: tuple[float, ...]
  add: Callable
  value: Callable
  weight: Callable


def _add_mass(state, logits, kept):
  largest, mass = state
  logits = jnp.where(kept, logits, MASKED)
  now = jnp.maximum(largest, logits.max(axis=1))
  return now, mass * jnp.exp(largest - now) + jnp.exp(logits - now[:, None]).sum(axis=1)


LOG_MASS = Statistic(
    start=(MASKED, 0.0), add=_add_mass, value=lambda state: state[0] + jnp.log(state[1]),
    weight=lambda value, logits, kept: jnp.where(kept, jnp.exp(logits - value), 0.0))
TOTAL = Statistic(
    start=(0.0,),
    add=lambda state, logits, kept: (state[0] + jnp.where(kept, logits, 0.0).sum(axis=1),),
    value=lambda state: state[0],
    weight=lambda value, logits, kept: kept.astype(jnp.float32))
COUNT = Statistic(
    start=(0.0,), add=lambda state, logits, kept: (state[0] + kept.sum(axis=1),),
    value=lambda state: state[0],
    weight=lambda value, logits, kept: jnp.zeros_like(logits))
LARGEST = Statistic(
    start=(MASKED,),
    add=lambda state, logits, kept: (
        jnp.maximum(state[0], jnp.where(kept, logits, MASKED).max(axis=1)),),
    value=lambda state: state[0],
    weight=lambda value, logits, kept: (kept & (logits == value)).astype(jnp.float32))
Asked = tuple[tuple[Statistic, Keep], ...]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rows_of(asked: Asked, x: Array, y: Array, rows: Tags, columns: Tags) -> tuple[Array, ...]:
  """Statistics of the rows of x y^T for x f32[M,D] and constants y f32[N,D]: f32[M] each.

  Args:
    asked: (statistic, which pairs count) of every figure.
    x: Rows, which the gradient reaches.
    y: Columns, which it does not.
    rows: Tags [M] of the rows.
    columns: Tags [N] of the columns.
  """
  rows = jax.tree.map(lambda tag: tag[:, None], rows)

  def add(states, y, columns, real):
    logits = _inner(x, y)
    return tuple(s.add(state, logits, keep(rows, columns) & real)
                 for (s, keep), state in zip(asked, states))

  start = tuple(tuple(jnp.full(x.shape[:1], v) for v in s.start) for s, _ in asked)
  states = _over_blocks(add, start, y, columns)
  return tuple(s.value(state) for (s, _), state in zip(asked, states))


def _rows_of_forward(asked, x, y, rows, columns):
  values = rows_of(asked, x, y, rows, columns)
  return values, (x, y, rows, columns, values)


def _rows_of_backward(asked, residuals, cotangents):
  x, y, rows, columns, values = residuals
  rows, values, cotangents = jax.tree.map(lambda v: v[:, None], (rows, values, cotangents))

  def add(total, y, columns, real):
    logits = _inner(x, y)
    weights = sum(g * s.weight(value, logits, keep(rows, columns) & real)
                  for (s, keep), value, g in zip(asked, values, cotangents))
    return total + _product(weights, y)

  return _over_blocks(add, jnp.zeros_like(x), y, columns), None, None, None


rows_of.defvjp(_rows_of_forward, _rows_of_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rows_of_own(asked: Asked, z: Array, tags: Tags) -> tuple[Array, ...]:
  """Statistics of the rows of z z^T, with the gradient of both factors; `Keep`s are symmetric."""
  return rows_of(asked, z, z, tags, tags)


def _rows_of_own_forward(asked, z, tags):
  values = rows_of_own(asked, z, tags)
  return values, (z, tags, values)


def _rows_of_own_backward(asked, residuals, cotangents):
  z, tags, values = residuals
  rows, row_values, row_gs = jax.tree.map(lambda v: v[:, None], (tags, values, cotangents))

  def add(total, y, columns, real):
    (tags, values, gs) = columns
    logits = _inner(z, y)
    weights = 0.0
    for (s, keep), v, g, v_T, g_T in zip(asked, row_values, row_gs, values, gs):
      kept = keep(rows, tags) & real
      weights += g * s.weight(v, logits, kept) + g_T * s.weight(v_T, logits, kept)
    return total + _product(weights, y)

  return _over_blocks(add, jnp.zeros_like(z), z, (tags, values, cotangents)), None


rows_of_own.defvjp(_rows_of_own_forward, _rows_of_own_backward)


def _over_blocks(add: Callable, start, y: Array, columns: Tags):
  """Folds `add(state, y [n,D], tags [1,n], which are real bool[1,n])` over blocks of the columns.

  Block i holds the columns i, i + k, i + 2k, ..., so that a sharded batch stays where it is.
  """
  count = -(-len(y) // BLOCK)
  real = jnp.arange(-(-len(y) // count) * count) < len(y)

  def dealt(values):
    missing = len(real) - len(values)
    values = jnp.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1)) if missing else values
    return values.reshape(-1, count, *values.shape[1:])

  blocks = jax.tree.map(dealt, (y, columns, real))

  def body(state, i):
    y, columns, real = jax.tree.map(
        lambda v: jax.lax.dynamic_index_in_dim(v, i, axis=1, keepdims=False), blocks)
    columns, real = jax.tree.map(lambda v: v[None], (columns, real))
    return add(state, y, columns, real), None

  return jax.lax.scan(body, start, jnp.arange(count))[0]


def _inner(x: Array, y: Array) -> Array:
  # Not x @ y.T: a transposed copy of a sharded block would be gathered beside the block itself.
  return jnp.einsum("id,jd->ij", x, y, precision=jax.lax.Precision.HIGHEST)


def _product(weights: Array, y: Array) -> Array:
  return jnp.matmul(weights, y, precision=jax.lax.Precision.HIGHEST)
