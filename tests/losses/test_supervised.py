"""Cross-entropy and accuracy against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ssl_jax import losses


@pytest.mark.parametrize("B,C", [(1, 2), (5, 3), (8, 10)])
def test_cross_entropy_is_the_mean_over_labelled_rows(B, C):
  logits = 5 * jax.random.normal(jax.random.key(B), (B, C))
  labels = np.arange(B) % C
  labels[B // 2:-1] = -1
  rows = [np.log(np.exp(x).sum()) - x[y]
          for x, y in zip(np.asarray(logits, np.float64), labels) if y >= 0]
  np.testing.assert_allclose(losses.cross_entropy(logits, labels), np.mean(rows), rtol=1e-5)


def test_rows_without_label_have_no_gradient():
  logits = jax.random.normal(jax.random.key(0), (3, 4))
  gradient = jax.grad(losses.cross_entropy)(logits, jnp.array([1, -1, 2]))
  np.testing.assert_array_equal(gradient[1], 0)
  assert np.abs(gradient[0]).max() > 0
  assert losses.cross_entropy(logits, jnp.full(3, -1)) == 0


def test_a_uniform_guess_costs_the_logarithm_of_the_classes():
  np.testing.assert_allclose(
      losses.cross_entropy(jnp.zeros((4, 10)), jnp.arange(4)), np.log(10), rtol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_accuracy_is_that_of_a_stable_sort(k):
  # Few distinct scores, so that ties are common.
  logits = jax.random.randint(jax.random.key(k), (64, 6), 0, 4).astype(jnp.float32)
  labels = jax.random.randint(jax.random.key(9), (64,), -1, 6)
  hits = [y in np.argsort(-x, kind="stable")[:k]
          for x, y in zip(np.asarray(logits), np.asarray(labels)) if y >= 0]
  np.testing.assert_allclose(losses.accuracy(logits, labels, k), 100 * np.mean(hits), rtol=1e-6)


def test_constant_and_nan_scores_are_not_right():
  labels = jnp.arange(10)
  assert losses.accuracy(jnp.zeros((10, 10)), labels) == 10
  assert losses.accuracy(jnp.full((10, 10), jnp.nan), labels, 5) == 0
  assert losses.accuracy(jnp.eye(10), jnp.full(10, -1)) == 0


def test_eight_devices_agree_with_one():
  logits = jax.random.normal(jax.random.key(1), (16, 6))
  labels = jnp.arange(16) % 7 - 1
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec("data"))
  function = jax.value_and_grad(losses.cross_entropy)
  value, gradient = function(logits, labels)
  got, moved = jax.jit(function)(*jax.device_put((logits, labels), split))
  np.testing.assert_allclose(got, value, rtol=1e-6)
  np.testing.assert_allclose(moved, gradient, rtol=1e-5, atol=1e-7)
