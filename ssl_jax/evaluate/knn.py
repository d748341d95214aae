"""k nearest neighbours in constant memory, for banks of any size."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

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
    train_features: f32[N, F], the bank; lengths do not matter.
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
                    sharding=_sharding(train_features))
  return {f"top{n}": float(accuracy(votes, jnp.asarray(test_labels), n)) for n in (1, 5)}


@partial(jax.jit, static_argnames=(
    "num_classes", "k", "temperature", "query_chunk", "bank_chunk", "sharding"))
def knn_votes(train_features: Array, train_labels: Array, test_features: Array, *,
              num_classes: int, k: int, temperature: float, query_chunk: int = 512,
              bank_chunk: int = 8192, sharding: NamedSharding | None = None) -> Array:
  """The classes' votes f32[M, C] of `knn`, of which only the ratios in a row mean something.

  The nearest neighbour's vote is 1. `sharding` says how the bank lies; None is on one device.
  """
  chex.assert_rank([train_features, train_labels, test_features], [2, 1, 2])
  k, M = min(k, train_features.shape[0]), test_features.shape[0]
  queries = min(query_chunk, M)
  search = partial(_search, k=k, chunk=bank_chunk)
  if sharding is not None:
    # By hand, since the partitioner would gather all similarities in order to sort them.
    rows, whole = PartitionSpec(sharding.spec[0]), PartitionSpec()
    search = jax.shard_map(search, mesh=sharding.mesh, in_specs=(rows, rows, whole),
                           out_specs=rows, check_vma=False)

  def vote(start):
    query = l2_normalize(jax.lax.dynamic_slice_in_dim(test_features, start, queries))
    similarity, label = search(train_features, train_labels, query)  # each [shards, Q, k]
    similarity, label = (v.swapaxes(0, 1).reshape(queries, -1) for v in (similarity, label))
    similarity, place = jax.lax.top_k(similarity, k)
    label = jnp.take_along_axis(label, place, axis=-1)
    weight = jnp.exp((similarity - jnp.maximum(similarity[:, :1], -1.0)) / temperature)
    return jnp.zeros((queries, num_classes)).at[
        jnp.arange(queries)[:, None], label].add(jnp.where(label >= 0, weight, 0.0))

  starts = jnp.minimum(jnp.arange(-(-M // queries)) * queries, M - queries)
  votes = jax.lax.map(vote, starts)
  # The last chunk started early: what it shares with the one before is dropped.
  return jnp.concatenate(
      [votes[:-1].reshape(-1, num_classes), votes[-1, len(starts) * queries - M:]])


def _search(bank: Array, labels: Array, query: Array, *, k: int, chunk: int
            ) -> tuple[Array, Array]:
  """The k best similarities of queries [Q, F] and their labels, two [1, Q, k']."""
  rows, queries = bank.shape[0], query.shape[0]
  chunk, k = min(chunk, rows), min(k, rows)

  def merge(best, i):
    # The last chunk starts early instead of being padded, which would copy the bank; what it
    # shares with its neighbour is masked.
    start = jnp.minimum(i * chunk, rows - chunk)
    part = jax.lax.dynamic_slice_in_dim(bank, start, chunk)
    label = jax.lax.dynamic_slice_in_dim(labels, start, chunk)
    counts = (label >= 0) & (start + jnp.arange(chunk) >= i * chunk)
    similarity = jnp.where(counts, query @ l2_normalize(part).T, -jnp.inf)
    similarity = jnp.concatenate([best[0], similarity], axis=-1)
    label = jnp.concatenate([best[1], jnp.broadcast_to(label, (queries, chunk))], axis=-1)
    similarity, place = jax.lax.top_k(similarity, k)
    return (similarity, jnp.take_along_axis(label, place, axis=-1)), None

  nothing = jnp.full((queries, k), -jnp.inf), jnp.full((queries, k), -1, labels.dtype)
  best, _ = jax.lax.scan(merge, nothing, jnp.arange(-(-rows // chunk)))
  return jax.tree.map(lambda v: v[None], best)


def _sharding(x) -> NamedSharding | None:
  """How the rows of an array lie on a mesh, None if they lie together."""
  if not isinstance(x, jax.Array) or not isinstance(x.sharding, NamedSharding):
    return None
  return x.sharding if x.sharding.shard_shape(x.shape)[0] < x.shape[0] else None
