"""k nearest neighbours in constant memory, for banks of any size."""

from functools import partial

import chex
import jax
import jax.numpy as jnp

from ssl_jax.losses import accuracy
from ssl_jax.ops import l2_normalize
from ssl_jax.types import Array


def knn(train_features: Array, train_labels: Array, test_features: Array, test_labels: Array, *,
        num_classes: int, k: int = 200, temperature: float = 0.1, query_chunk: int = 512,
        bank_chunk: int = 8192) -> dict[str, float]:
  """Classifies by the k most similar training images, each voting exp(cosine / temperature).

  Wu et al. 2018, arXiv:1805.01978, section 3.4; k = 200 and temperature 0.1 as in MoCo's CIFAR
  monitor. A bank sharded over devices is searched where it lies; only its k best travel.

  Args:
    train_features: [N, F], the bank; lengths do not matter.
    train_labels: i32[N]; a negative label takes its image out of the bank.
    test_features: [M, F].
    test_labels: i32[M]; a negative label does not count.
    num_classes: C.
    k: Neighbours, at most N.
    temperature: Of the vote.
    query_chunk: Test images at a time.
    bank_chunk: Training images at a time, on each device. Memory is of the order
      query_chunk (bank_chunk + k devices).

  Returns:
    {"top1", "top5"} in percent.
  """
  votes = knn_votes(train_features, train_labels, test_features, num_classes=num_classes, k=k,
                    temperature=temperature, query_chunk=query_chunk, bank_chunk=bank_chunk,
                    shards=_shards(train_features))
  return {f"top{n}": float(accuracy(votes, jnp.asarray(test_labels), n)) for n in (1, 5)}


@partial(jax.jit, static_argnames=(
    "num_classes", "k", "temperature", "query_chunk", "bank_chunk", "shards"))
def knn_votes(train_features: Array, train_labels: Array, test_features: Array, *,
              num_classes: int, k: int, temperature: float, query_chunk: int = 512,
              bank_chunk: int = 8192, shards: int = 1) -> Array:
  """The classes' votes f32[M, C] of `knn`; `shards` is over how many devices the bank's rows lie.

  Only the ratios of a row's votes mean something: the nearest neighbour's is 1.
  """
  chex.assert_rank([train_features, train_labels, test_features], [2, 1, 2])
  N, F = train_features.shape
  M = test_features.shape[0]
  k = min(k, N)
  rows = N // shards
  chex.assert_equal(rows * shards, N)
  bank = train_features.reshape(shards, rows, F)
  labels = train_labels.reshape(shards, rows)
  chunk, queries = min(bank_chunk, rows), min(query_chunk, M)
  kept = min(k, rows)

  def search(query):
    """The k best similarities and their labels, two [Q, k]."""

    def merge(best, i):
      # The last chunk starts early instead of being padded, which would copy the bank; what it
      # shares with its neighbour is masked.
      start = jnp.minimum(i * chunk, rows - chunk)
      part = l2_normalize(jax.lax.dynamic_slice_in_dim(bank, start, chunk, axis=1))
      label = jax.lax.dynamic_slice_in_dim(labels, start, chunk, axis=1)
      counts = (label >= 0) & (start + jnp.arange(chunk) >= i * chunk)
      similarity = jnp.where(counts, jnp.einsum("qf,scf->qsc", query, part), -jnp.inf)
      similarity = jnp.concatenate([best[0], similarity], axis=-1)
      label = jnp.concatenate(
          [best[1], jnp.broadcast_to(label, (queries, *label.shape))], axis=-1)
      similarity, place = jax.lax.top_k(similarity, kept)
      return (similarity, jnp.take_along_axis(label, place, axis=-1)), None

    empty = (jnp.full((queries, shards, kept), -jnp.inf),
             jnp.full((queries, shards, kept), -1, labels.dtype))
    (similarity, label), _ = jax.lax.scan(merge, empty, jnp.arange(-(-rows // chunk)))
    similarity, place = jax.lax.top_k(similarity.reshape(queries, -1), k)
    return similarity, jnp.take_along_axis(label.reshape(queries, -1), place, axis=-1)

  def vote(start):
    query = l2_normalize(jax.lax.dynamic_slice_in_dim(test_features, start, queries))
    similarity, label = search(query)
    weight = jnp.exp((similarity - jnp.maximum(similarity[:, :1], -1.0)) / temperature)
    return jnp.zeros((queries, num_classes)).at[
        jnp.arange(queries)[:, None], label].add(jnp.where(label >= 0, weight, 0.0))

  starts = jnp.minimum(jnp.arange(-(-M // queries)) * queries, M - queries)
  votes = jax.lax.map(vote, starts)
  return _join(votes, M)


def _join(votes: Array, count: int) -> Array:
  """Undoes the overlap of the last chunk with the one before: [chunks, Q, C] -> [count, C]."""
  chunks, queries, classes = votes.shape
  overlap = chunks * queries - count
  head = votes[:-1].reshape(-1, classes)
  return jnp.concatenate([head, votes[-1, overlap:]])


def _shards(x) -> int:
  """Over how many devices the rows of an array lie."""
  if not isinstance(x, jax.Array):
    return 1
  return x.shape[0] // x.sharding.shard_shape(x.shape)[0]
