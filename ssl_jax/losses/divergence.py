"""CLSA's distributional divergence, and the candidates that its distributions are over.

Embeddings are scaled to unit length here, in f32. No gradient reaches keys and queue.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

from ssl_jax.losses.supervised import cross_entropy
from ssl_jax.ops import inner_products, l2_normalize
from ssl_jax.types import Array


def batch_and_queue(query: Array, key: Array, queue: Array) -> tuple[Array, Array]:
  """Similarities to the keys of the whole batch and to a queue: CLSA's candidates as released.

  Args:
    query: [B, D].
    key: [B, D], row for row the positives.
    queue: [K, D] of unit length, without this batch's keys.

  Returns:
    (cosines f32[B, B + K], i32[B] the column of the positive: row i's is i).
  """
  query, key, queue = _constants(query, key, queue)
  # Along the axis that is not divided over devices: no row moves.
  similarity = jnp.concatenate(
      [inner_products(query, key), inner_products(query, queue)], axis=1)
  return similarity, jnp.arange(len(query))


def positive_and_queue(query: Array, key: Array, queue: Array) -> tuple[Array, Array]:
  """Similarities to the query's own key and to a queue: the candidates of MoCo.

  Takes and returns what `batch_and_queue` does, with 1 + K columns of which the first is the
  positive.
  """
  query, key, queue = _constants(query, key, queue)
  positive = jnp.sum(query * key, axis=-1, keepdims=True)
  similarity = jnp.concatenate([positive, inner_products(query, queue)], axis=1)
  return similarity, jnp.zeros(len(query), jnp.int32)


CANDIDATES = {f.__name__: f for f in (batch_and_queue, positive_and_queue)}


def distributional_divergence(weak: Sequence[Array], strong: Sequence[Array],
                              temperature: float) -> Array:
  """How badly strong views' distributions over the candidates imitate weak views', in nats.

  The cross-entropy of softmax(strong / tau) under softmax(weak / tau), averaged over B and summed
  over all pairs of a weak and a strong view: Wang and Qi 2021, arXiv:2104.07713, equation 5 up to
  the weak distributions' entropies, which have no gradient as these are constants; in log-softmax
  where the released code takes the logarithm of a softmax, which may underflow. The sum is linear
  in either distribution, so that V weak and W strong views cost V + W passes and not V W.

  Args:
    weak: V similarities f32[B, C] to the candidates. No gradient flows to them.
    strong: W of the same shape.
    temperature: tau > 0.

  Returns:
    f32[]; V W ln C when the strong similarities are equal.
  """
  chex.assert_equal_shape([*weak, *strong])
  target = sum(jax.nn.softmax(jax.lax.stop_gradient(s) / temperature) for s in weak)
  log_prob = sum(jax.nn.log_softmax(s / temperature) for s in strong)
  return -jnp.mean(jnp.sum(target * log_prob, axis=-1))


def clsa_terms(weak: Sequence[Array], strong: Sequence[Array], key: Array, queue: Array,
               temperature: float, divergence_temperature: float,
               candidates: Callable = batch_and_queue) -> tuple[Array, Array]:
  """The two terms of CLSA's loss for one set of keys, summed over views as in the released code.

  Args:
    weak: V embeddings [B, D].
    strong: W embeddings [B, D].
    key: [B, D], row for row the positives.
    queue: [K, D] of unit length, without this batch's keys.
    temperature: Of the contrastive softmax.
    divergence_temperature: Of the distributions that are compared.
    candidates: `batch_and_queue` or `positive_and_queue`.

  Returns:
    (the sum of V cross-entropies, the `distributional_divergence` of V W pairs), f32[] each.
  """
  compared = [candidates(view, key, queue) for view in weak]
  contrastive = sum(cross_entropy(similarity / temperature, positive)
                    for similarity, positive in compared)
  divergence = distributional_divergence(
      [similarity for similarity, _ in compared],
      [candidates(view, key, queue)[0] for view in strong], divergence_temperature)
  return contrastive, divergence


def _constants(query, key, queue):
  key, queue = jax.lax.stop_gradient((key, queue.astype(jnp.float32)))
  chex.assert_rank([query, key, queue], 2)
  chex.assert_equal_shape([query, key])
  chex.assert_equal(query.shape[1], queue.shape[1])
  return l2_normalize(query), l2_normalize(key), queue
