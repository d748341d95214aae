"""Features of a data set, collected on the host."""

from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.experimental import multihost_utils

from ssl_jax.types import Array, Batch


def extract(encode: Callable[[Batch], Array], batches: Iterable[Batch]
            ) -> tuple[np.ndarray, np.ndarray]:
  """Runs a frozen encoder over a data set.

  Args:
    encode: Batch -> features [B, F]; jitted, with the preprocessing inside.
    batches: Batches of one size, in order; "valid" (bool[B], all true if it is missing) says which
      rows are images and which fill up the last batch.

  Returns:
    Features f32[N, F] and labels i32[N] of the valid rows, on every process.
  """
  collected, waiting = [], None
  for batch in batches:
    # One batch behind: the device computes the next while the host copies this one.
    ahead = encode(batch), batch
    if waiting is not None:
      collected.append(_rows(*waiting))
    waiting = ahead
  if waiting is not None:
    collected.append(_rows(*waiting))
  features, labels = zip(*collected)
  return np.concatenate(features), np.concatenate(labels)


def _rows(features: Array, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
  features, labels = _on_host(features), _on_host(batch["label"])
  valid = _on_host(batch["valid"]) if "valid" in batch else np.ones(len(labels), bool)
  return features[valid].astype(np.float32), labels[valid]


def _on_host(x) -> np.ndarray:
  if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))
  return np.asarray(x)
