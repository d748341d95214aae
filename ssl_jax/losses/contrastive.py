"""Contrastive losses: of two views, of a view and a queue, of labelled images.

Every embedding is scaled to unit length here, in f32, so a loss may be given a head's raw output.
The batch is the global one: a product of two sharded batches is what other frameworks gather for.
The cross-entropy of one positive is written softplus(log sum exp(negatives) - positive), which
keeps its digits when it is small.
"""

import math

import chex
import jax
import jax.numpy as jnp

from ssl_jax.ops import inner_products, l2_normalize
from ssl_jax.types import Array

# An embedding is no candidate for itself. The value is SimCLR's; minus infinity would make the
# gradient NaN in a row that has no other candidate.
MASKED = -1e9


def nt_xent(a: Array, b: Array, temperature: float) -> Array:
  """The SimCLR loss of two views, as its code adds it up: the mean over a plus the mean over b.

  An anchor's candidates are the 2B - 1 other embeddings; its positive is the other view of its
  image. Chen et al. 2020, arXiv:2002.05709, equation 1; the sum of two means follows the released
  code and is twice the paper's average over 2B anchors (which changes the effective learning rate).

  Args:
    a: [B, D] embeddings of one view.
    b: [B, D] embeddings of the other, row for row.
    temperature: tau > 0.

  Returns:
    f32[]; 2 ln(2B - 1) when all similarities are equal.
  """
  a, b = _unit_pair(a, b)
  positive = jnp.sum(a * b, axis=-1) / temperature

  def one_way(x, y):
    # Blocks instead of one [2B, 2B] matrix: concatenating along a sharded batch would move rows
    # between devices, whereas each block needs only its right factor gathered.
    other, own = _off_diagonal(x, y) / temperature, _off_diagonal(x, x) / temperature
    negative = jnp.logaddexp(jax.nn.logsumexp(other, axis=-1), jax.nn.logsumexp(own, axis=-1))
    return jnp.mean(jax.nn.softplus(negative - positive))

  return one_way(a, b) + one_way(b, a)


def nt_xent_mean(a: Array, b: Array, temperature: float) -> Array:
  """`nt_xent` averaged over its 2B anchors: equation 3 of the SimCLR paper, half of the code's."""
  return nt_xent(a, b, temperature) / 2


def nt_xent_accuracy(a: Array, b: Array) -> Array:
  """How often an anchor of `nt_xent` is nearest to its positive, in percent; a tie is a miss.

  Chance is 100 / (2B - 1).
  """
  a, b = _unit_pair(a, b)
  positive = jnp.sum(a * b, axis=-1)

  def hits(x, y):
    nearest = jnp.maximum(_off_diagonal(x, y).max(axis=-1), _off_diagonal(x, x).max(axis=-1))
    return jnp.mean(positive > nearest)

  return 50.0 * (hits(a, b) + hits(b, a))


def info_nce(query: Array, key: Array, queue: Array, temperature: float) -> Array:
  """The MoCo loss: a query against its key and a queue of other images' keys.

  He et al. 2019, arXiv:1911.05722, equation 1 with K + 1 candidates. Key and queue are constants:
  no gradient reaches them.

  Args:
    query: [B, D].
    key: [B, D], row for row the positives.
    queue: [K, D] negatives of unit length, without this batch's keys.
    temperature: tau > 0.

  Returns:
    f32[]; ln(K + 1) when all similarities are equal.
  """
  positive, negative = _queue_similarity(query, key, queue)
  mass = jax.nn.logsumexp(negative / temperature, axis=-1)
  return jnp.mean(jax.nn.softplus(mass - positive / temperature))


def info_nce_accuracy(query: Array, key: Array, queue: Array) -> Array:
  """How often a query is nearer to its key than to all of the queue, in percent; a tie is a miss.

  Chance is 100 / (K + 1).
  """
  positive, negative = _queue_similarity(query, key, queue)
  return 100.0 * jnp.mean(positive > negative.max(axis=-1))


def batch_info_nce(query: Array, key: Array, temperature: float) -> Array:
  """The MoCo v3 loss of one direction: a query against the keys of the whole batch, its own first.

  Chen et al. 2021, arXiv:2104.02057, algorithm 1: cross-entropy times 2 tau. The negatives are the
  B - 1 keys of the other images, of the same view as the positive. Keys are constants.

  Args:
    query: [B, D] of one view.
    key: [B, D] of the other view, row for row the positives.
    temperature: tau > 0.

  Returns:
    f32[]; 2 tau ln B when all similarities are equal.
  """
  query, key = _unit_pair(query, jax.lax.stop_gradient(key))
  mass = jax.nn.logsumexp(_off_diagonal(query, key) / temperature, axis=-1)
  positive = jnp.sum(query * key, axis=-1) / temperature
  return 2 * temperature * jnp.mean(jax.nn.softplus(mass - positive))


def batch_info_nce_accuracy(query: Array, key: Array) -> Array:
  """How often a query of `batch_info_nce` is nearest to its key, in percent; a tie is a miss.

  Chance is 100 / B.
  """
  query, key = _unit_pair(query, key)
  return 100.0 * jnp.mean(jnp.sum(query * key, axis=-1) > _off_diagonal(query, key).max(axis=-1))


def supervised_contrastive(features: Array, labels: Array, temperature: float,
                           base_temperature: float) -> Array:
  """The supervised contrastive loss L_out: the mean over positives stands outside the logarithm.

  Khosla et al. 2020, arXiv:2004.11362, equation 2, averaged over all B V anchors and multiplied by
  temperature / base_temperature as in the released code (base_temperature 0.07). Every other
  embedding is a candidate, positives included. An anchor without a positive counts as zero.

  Args:
    features: [B, V, D] embeddings, V views of each image.
    labels: i32[B] classes. A negative label is of no class: the image's own views are then its
      only positives, and with no labels at all the loss is `nt_xent_mean` times the factor.
    temperature: tau > 0.
    base_temperature: The constant that the loss is divided by.

  Returns:
    f32[].
  """
  log_prob, positives = _candidates(features, labels, temperature)
  count = positives.sum(axis=-1)
  mean = jnp.where(positives, log_prob, 0.0).sum(axis=-1) / jnp.maximum(count, 1)
  return -temperature / base_temperature * jnp.mean(mean)


def supervised_contrastive_in(features: Array, labels: Array, temperature: float,
                              base_temperature: float) -> Array:
  """The supervised contrastive loss L_in: the mean over positives stands inside the logarithm.

  Khosla et al. 2020, arXiv:2004.11362, equation 3; arguments and factor as in
  `supervised_contrastive`, which is never smaller (Jensen's inequality) and trains better.
  """
  log_prob, positives = _candidates(features, labels, temperature)
  count = positives.sum(axis=-1)
  # A row without positives would be log 0, whose gradient is NaN even where it is not selected.
  chosen = positives | (count == 0)[:, None]
  mass = jax.nn.logsumexp(jnp.where(chosen, log_prob, -jnp.inf), axis=-1)
  mean = jnp.where(count > 0, mass - jnp.log(jnp.maximum(count, 1)), 0.0)
  return -temperature / base_temperature * jnp.mean(mean)


def supervised_contrastive_queue(query: Array, labels: Array, queue: Array, queue_labels: Array,
                                 temperature: float) -> Array:
  """The supervised contrastive loss L_out of a query against a labelled queue.

  Positives are the queue's entries of the query's class, candidates all of its entries. Islam et
  al. 2021, arXiv:2103.13517 (code), where the queue already holds this batch's keys, so that every
  query has its own key as a positive. The queue is a constant.

  Args:
    query: [B, D].
    labels: i32[B]; a negative label is of no class and its row counts as zero.
    queue: [K, D] keys of unit length, this batch's among them.
    queue_labels: i32[K]; negative where nothing was stored yet, which is a negative for all.
    temperature: tau > 0.

  Returns:
    f32[]; ln K times n / (n + 1e-5) for n positives when all similarities are equal.
  """
  chex.assert_rank([query, queue, labels, queue_labels], [2, 2, 1, 1])
  queue = jax.lax.stop_gradient(queue.astype(jnp.float32))
  log_prob = jax.nn.log_softmax(inner_products(l2_normalize(query), queue) / temperature)
  positives = (labels[:, None] == queue_labels) & (labels >= 0)[:, None]
  # The small constant is the released code's: it keeps a row without positives finite.
  total = jnp.where(positives, log_prob, 0.0).sum(axis=-1)
  return -jnp.mean(total / (positives.sum(axis=-1) + 1e-5))


def chance_loss(candidates: int) -> float:
  """The cross-entropy of a guess among equals, ln(candidates), in nats.

  A network that knows nothing gets ln(2B - 1) per anchor of `nt_xent` and ln(K + 1) of `info_nce`.
  """
  return math.log(candidates)


def _unit_pair(a: Array, b: Array) -> tuple[Array, Array]:
  chex.assert_rank([a, b], 2)
  chex.assert_equal_shape([a, b])
  return l2_normalize(a), l2_normalize(b)


def _off_diagonal(x: Array, y: Array) -> Array:
  """The similarities of all pairs but those in the same row, which are masked: [B, B]."""
  return jnp.where(jnp.eye(x.shape[0], dtype=bool), MASKED, inner_products(x, y))


def _queue_similarity(query: Array, key: Array, queue: Array) -> tuple[Array, Array]:
  query, key = _unit_pair(query, jax.lax.stop_gradient(key))
  queue = jax.lax.stop_gradient(queue.astype(jnp.float32))
  chex.assert_equal(query.shape[1], queue.shape[1])
  return jnp.sum(query * key, axis=-1), inner_products(query, queue)


def _candidates(features: Array, labels: Array, temperature: float) -> tuple[Array, Array]:
  """Log-probabilities of all candidates and which of them are positives: two [B V, B V]."""
  chex.assert_rank([features, labels], [3, 1])
  B, V, D = features.shape
  chex.assert_equal(labels.shape[0], B)
  z = l2_normalize(features).reshape(B * V, D)  # image-major: a sharded batch stays where it is
  itself = jnp.eye(B * V, dtype=bool)
  logits = jnp.where(itself, MASKED, inner_products(z, z) / temperature)
  log_prob = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
  image, label = jnp.repeat(jnp.arange(B), V), jnp.repeat(labels, V)
  same = (label[:, None] == label) & (label >= 0) | (image[:, None] == image)
  return log_prob, same & ~itself
