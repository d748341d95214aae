"""Losses: pure functions of f32 arrays over the global batch, each a scalar.

`form(rows, columns)` is the module whose contrastive losses suit that many pairs.
"""

from types import ModuleType

from ssl_jax.losses import blockwise, contrastive
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
from ssl_jax.losses.divergence import (
  batch_and_queue,
  clsa_terms,
  distributional_divergence,
  positive_and_queue,
)
from ssl_jax.losses.regression import normalized_mse
from ssl_jax.losses.relic import draw_candidates, relic_contrastive, relic_invariance
from ssl_jax.losses.supervised import accuracy, cross_entropy

__all__ = [
  "accuracy",
  "batch_and_queue",
  "batch_info_nce",
  "batch_info_nce_accuracy",
  "chance_loss",
  "clsa_terms",
  "cross_entropy",
  "distributional_divergence",
  "draw_candidates",
  "form",
  "info_nce",
  "info_nce_accuracy",
  "normalized_mse",
  "nt_xent",
  "nt_xent_accuracy",
  "nt_xent_mean",
  "positive_and_queue",
  "relic_contrastive",
  "relic_invariance",
  "supervised_contrastive",
  "supervised_contrastive_in",
  "supervised_contrastive_queue",
]

LARGEST_MATRIX = 2**30  # bytes of similarities over all devices; the dense losses keep two or three


def form(rows: int, columns: int) -> ModuleType:
  """The losses for that many anchors and candidates: `contrastive`, or `blockwise` above 1 GiB."""
  return blockwise if 4 * rows * columns > LARGEST_MATRIX else contrastive
