"""The BYOL loss against its formula, golden values and laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ssl_jax import losses


def waves(n, d, a, b):
  i, j = np.mgrid[1:n + 1, 1:d + 1]
  x = np.sin(a * i * j + b)
  return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("B,D", [(1, 1), (1, 5), (4, 2), (7, 16)])
def test_normalized_mse_is_two_minus_two_cosines(B, D):
  x, y = jax.random.normal(jax.random.key(B), (2, B, D))
  want = np.mean([2 - 2 * (p @ t) / np.sqrt((p @ p) * (t @ t))
                  for p, t in zip(np.asarray(x, np.float64), np.asarray(y, np.float64))])
  np.testing.assert_allclose(losses.normalized_mse(x, y), want, rtol=1e-5, atol=1e-6)


def test_golden_values():
  a, b = np.array([(1., 0.), (0., 1.)]), np.array([(.8, .6), (-.6, .8)])
  np.testing.assert_allclose(losses.normalized_mse(a, b), .4, rtol=1e-6)
  q, k, s, k1 = (waves(4, 8, .7, b) for b in (.1, .3, .9, .6))
  np.testing.assert_allclose(losses.normalized_mse(q, k) + losses.normalized_mse(s, k1),
                             0.1186812614, rtol=2e-6)


def test_it_runs_from_0_to_4_and_ignores_length():
  x = jax.random.normal(jax.random.key(0), (3, 5))
  np.testing.assert_allclose(losses.normalized_mse(x, 9 * x), 0, atol=1e-6)
  np.testing.assert_allclose(losses.normalized_mse(x, -x / 9), 4, rtol=1e-6)


def test_a_dead_embedding_has_a_finite_gradient():
  gradient = jax.grad(losses.normalized_mse)(jnp.zeros((2, 3)), jnp.ones((2, 3)))
  assert np.isfinite(gradient).all()


def test_eight_devices_agree_with_one():
  x, y = jax.random.normal(jax.random.key(1), (2, 16, 6))
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec("data"))
  function = jax.value_and_grad(losses.normalized_mse, argnums=(0, 1))
  value, gradients = function(x, y)
  got, moved = jax.jit(function)(*jax.device_put((x, y), split))
  np.testing.assert_allclose(got, value, rtol=1e-6)
  np.testing.assert_allclose(moved, gradients, rtol=1e-5, atol=1e-7)
