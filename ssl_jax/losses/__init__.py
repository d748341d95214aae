"""Losses: pure functions of f32 arrays over the global batch, each a scalar."""

from ssl_jax.losses.contrastive import (
  batch_info_nce,
  batch_info_nce_accuracy,
  chance_loss,
  info_nce,
  info_nce_accuracy,
  nt_xent,
  nt_xent_accuracy,
  nt_xent_mean,
  supervised_contrastive,
  supervised_contrastive_in,
  supervised_contrastive_queue,
)
from ssl_jax.losses.regression import normalized_mse
from ssl_jax.losses.relic import draw_candidates, relic_contrastive, relic_invariance
from ssl_jax.losses.supervised import accuracy, cross_entropy

__all__ = [
  "accuracy",
  "batch_info_nce",
  "batch_info_nce_accuracy",
  "chance_loss",
  "cross_entropy",
  "draw_candidates",
  "info_nce",
  "info_nce_accuracy",
  "normalized_mse",
  "nt_xent",
  "nt_xent_accuracy",
  "nt_xent_mean",
  "relic_contrastive",
  "relic_invariance",
  "supervised_contrastive",
  "supervised_contrastive_in",
  "supervised_contrastive_queue",
]
