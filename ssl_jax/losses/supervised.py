"""Classification against labels; a negative label means that there is none."""

import chex
import jax
import jax.numpy as jnp

from ssl_jax.types import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
  """Softmax cross-entropy in nats, averaged over the labelled rows.

  Args:
    logits: [B, C] scores of C classes.
    labels: i32[B] in [0, C), or negative for rows that do not count.

  Returns:
    f32[]; 0 when no row is labelled.
  """
  chex.assert_rank([logits, labels], [2, 1])
  valid = labels >= 0
  log_prob = jax.nn.log_softmax(logits.astype(jnp.float32))
  chosen = jnp.take_along_axis(log_prob, jnp.maximum(labels, 0)[:, None], axis=-1)[:, 0]
  return -jnp.where(valid, chosen, 0.0).sum() / jnp.maximum(valid.sum(), 1)


def accuracy(logits: Array, labels: Array, k: int = 1) -> Array:
  """How often the label is among the k highest scores, in percent of the labelled rows.

  Equal scores go to the lower class, as `argmax` does, so constant scores are no better than
  chance; a row with a NaN is a miss.

  Args:
    logits: [B, C].
    labels: i32[B] in [0, C), or negative for rows that do not count.
    k: How many guesses are allowed.

  Returns:
    f32[] in [0, 100]; 0 when no row is labelled.
  """
  chex.assert_rank([logits, labels], [2, 1])
  valid = labels >= 0
  chosen = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], axis=-1)
  # "not <=" instead of ">" because NaN compares false: it must count as being ahead.
  ahead = ~(logits <= chosen) | (
      (logits == chosen) & (jnp.arange(logits.shape[1]) < labels[:, None]))
  hit = valid & (ahead.sum(axis=-1) < k)
  return 100.0 * hit.sum() / jnp.maximum(valid.sum(), 1)
