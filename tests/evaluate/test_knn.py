"""k nearest neighbours against a loop, in chunks, on a mesh, and in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from collectives import collectives
from jax.sharding import NamedSharding, PartitionSpec

from ssl_jax.evaluate import knn
from ssl_jax.evaluate.knn import knn_votes


def draw(N=53, M=17, F=6, C=4, seed=0):
  generator = np.random.default_rng(seed)
  labels = generator.integers(0, C, N + M).astype(np.int32)
  x = (generator.normal(size=(C, F))[labels] + generator.normal(size=(N + M, F)))
  x = (x * generator.uniform(.1, 9, (N + M, 1))).astype(np.float32)
  return x[:N], labels[:N], x[N:], labels[N:]


def naive(bank, labels, queries, C, k, temperature):
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  votes = np.zeros((len(queries), C))
  for i, q in enumerate(unit(queries.astype(np.float64))):
    similarity = unit(bank.astype(np.float64)) @ q
    order = [j for j in np.argsort(-similarity) if labels[j] >= 0][:k]
    for j in order:
      votes[i, labels[j]] += np.exp((similarity[j] - similarity[order[0]]) / temperature)
  return votes


@pytest.mark.parametrize("k,query_chunk,bank_chunk", [
    (1, 512, 8192), (5, 4, 10), (5, 17, 53), (20, 5, 7), (200, 16, 52)])
def test_votes_are_those_of_a_loop_for_every_chunking(k, query_chunk, bank_chunk):
  bank, labels, queries, _ = draw()
  labels[::9] = -1
  got = knn_votes(bank, labels, queries, num_classes=4, k=k, temperature=.1,
                  query_chunk=query_chunk, bank_chunk=bank_chunk)
  np.testing.assert_allclose(got, naive(bank, labels, queries, 4, k, .1), rtol=1e-4, atol=1e-5)


def test_accuracies_are_percent_of_the_labelled_queries():
  bank, labels, queries, truth = draw(C=7, M=40)
  truth[:3] = -1
  got = knn(bank, labels, queries, truth, num_classes=7, k=9, temperature=.2)
  ranks = np.argsort(-naive(bank, labels, queries, 7, 9, .2), axis=1, kind="stable")
  for n in (1, 5):
    hits = [t in r[:n] for r, t in zip(ranks, truth) if t >= 0]
    assert got[f"top{n}"] == pytest.approx(100 * np.mean(hits))


def test_the_nearest_neighbour_of_an_image_in_the_bank_is_itself():
  bank, labels, *_ = draw()
  assert knn(bank, labels, 3 * bank, labels, num_classes=4, k=1) == {"top1": 100, "top5": 100}


def test_a_collapsed_encoder_is_no_better_than_chance():
  labels = np.arange(40) % 10
  same = np.ones((40, 3), np.float32)
  assert knn(same, labels, same, labels, num_classes=10, k=40)["top1"] == pytest.approx(10)


def test_a_sharded_bank_is_searched_where_it_lies():
  bank, labels, queries, truth = draw(N=256, M=24)
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec("data"))
  there = jax.device_put(bank, split), jax.device_put(labels, split)
  options = dict(num_classes=4, k=10, temperature=.1, query_chunk=8, bank_chunk=10)
  assert knn(*there, queries, truth, **options) == knn(bank, labels, queries, truth, **options)
  compiled = knn_votes.lower(*there, queries, sharding=split, **options).compile()
  moved = collectives(compiled)
  assert moved and max(c.elements for c in moved) <= 8 * 8 * 10, moved  # Q, shards, k
  np.testing.assert_allclose(compiled(*there, queries), naive(bank, labels, queries, 4, 10, .1),
                             rtol=1e-4, atol=1e-5)


def test_imagenet_fits_in_constant_memory():
  """The program for 1.28 million x 2,048 features and 50,000 queries, compiled and not run."""
  shape = jax.ShapeDtypeStruct
  compiled = knn_votes.lower(
      shape((1281167, 2048), jnp.float32), shape((1281167,), jnp.int32),
      shape((50000, 2048), jnp.float32), num_classes=1000, k=200, temperature=.1).compile()
  memory = compiled.memory_analysis()
  assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 1e9, memory
