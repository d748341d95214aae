"""Signs of collapse at their two ends and in between."""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.evaluate import feature_std, rank_me


def test_feature_std_is_0_for_a_point_and_1_for_a_sphere():
  x = jax.random.normal(jax.random.key(0), (4000, 32))
  np.testing.assert_allclose(feature_std(x), 1, atol=0.01)
  np.testing.assert_allclose(feature_std(9 * x), feature_std(x), rtol=1e-5)
  np.testing.assert_allclose(feature_std(jnp.ones((8, 4)) * jnp.arange(1, 9)[:, None]), 0,
                             atol=1e-6)
  two = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
  np.testing.assert_allclose(feature_std(two), np.sqrt(2) / 2, rtol=1e-6)


def test_rank_me_counts_equal_directions():
  for rank in (1, 3, 8):
    x = jnp.zeros((20, 8)).at[jnp.arange(rank), jnp.arange(rank)].set(5.0)
    np.testing.assert_allclose(rank_me(x), rank, rtol=1e-4)


def test_rank_me_is_the_formula():
  x = np.random.default_rng(0).normal(size=(30, 6)) * np.geomspace(1, 1e-3, 6)
  s = np.linalg.svd(x, compute_uv=False)
  p = s / s.sum() + 1e-7
  np.testing.assert_allclose(rank_me(x), np.exp(-(p * np.log(p)).sum()), rtol=1e-4)


def test_a_direction_that_is_lost_in_f32_does_not_count():
  x = jax.random.normal(jax.random.key(0), (256, 1)) @ jnp.ones((1, 128))
  assert rank_me(x) < 1.01


def test_dead_features_are_finite():
  assert np.isfinite(rank_me(jnp.zeros((4, 3)))) and feature_std(jnp.zeros((4, 3))) == 0
