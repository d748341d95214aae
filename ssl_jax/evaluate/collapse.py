"""Figures that tell whether embeddings have collapsed, computed on the device."""

import chex
import jax.numpy as jnp

from ssl_jax.ops import l2_normalize
from ssl_jax.types import Array


def feature_std(features: Array) -> Array:
  """How far unit vectors spread: sqrt(D) times the mean of their dimensions' deviations.

  Chen and He 2020, arXiv:2011.10566, section 4.1, which plots it before the factor.

  Args:
    features: [B, D].

  Returns:
    f32[]: 0 when all are one direction, 1 (at most) when they are spread over the whole sphere.
  """
  chex.assert_rank(features, 2)
  return jnp.sqrt(features.shape[1]) * jnp.mean(jnp.std(l2_normalize(features), axis=0))


def rank_me(features: Array) -> Array:
  """The effective rank: exp of the entropy of the singular values as a distribution.

  Garrido et al. 2022, arXiv:2210.02885, equation 1, with its epsilon of 1e-7. The singular values
  are not taken from a Gram matrix, whose square root would raise the floor of f32 to 3e-4.

  Args:
    features: [B, D], not centred.

  Returns:
    f32[] from 1 to min(B, D).
  """
  chex.assert_rank(features, 2)
  values = jnp.linalg.svd(features.astype(jnp.float32), compute_uv=False)
  p = values / jnp.maximum(jnp.sum(values), 1e-30) + 1e-7
  return jnp.exp(-jnp.sum(p * jnp.log(p)))
