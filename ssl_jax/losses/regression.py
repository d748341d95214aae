"""Losses that pull one embedding onto another, without negatives."""

import chex
import jax.numpy as jnp

from ssl_jax.ops import l2_normalize
from ssl_jax.types import Array


def normalized_mse(prediction: Array, target: Array) -> Array:
  """The BYOL loss of one direction: the squared distance of two unit vectors, 2 - 2 cos.

  Grill et al. 2020, arXiv:2006.07733, equation 2; summed over D, averaged over B, no factor 1/2.
  Gradients flow to both arguments: a caller that wants a constant target stops them.

  Args:
    prediction: [B, D].
    target: [B, D].

  Returns:
    f32[] from 0 (equal directions) to 4 (opposite ones).
  """
  chex.assert_equal_shape([prediction, target])
  difference = l2_normalize(prediction) - l2_normalize(target)
  return jnp.mean(jnp.sum(difference**2, axis=-1))
