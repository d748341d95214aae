"""The scores of classification, in percent, from a classifier's scores on the host."""

from collections.abc import Callable

import numpy as np


def top1(scores: np.ndarray, target: np.ndarray) -> float:
  """How often the highest score f32[N, C] is that of the class in target bool[N, C]."""
  return 100.0 * float(np.mean(np.take_along_axis(
      target, scores.argmax(axis=1)[:, None], axis=1)))


def mean_per_class(scores: np.ndarray, target: np.ndarray) -> float:
  """The mean over classes of the share of their images that is recognised.

  Classes without an image are left out. (Ericsson et al.'s code divides by zero there, so that a
  candidate which predicts such a class can never be chosen.)
  """
  hit = np.take_along_axis(target, scores.argmax(axis=1)[:, None], axis=1)
  support = target.sum(axis=0)
  return 100.0 * float(np.mean((hit * target).sum(axis=0)[support > 0] / support[support > 0]))


def average_precision_11(scores: np.ndarray, positive: np.ndarray) -> float:
  """VOC2007's average precision from 0 to 1: precision at eleven levels of recall.

  AP = 1/11 sum over t in 0, 0.1 .. 1 of the highest precision at a recall of at least t. The curve
  begins at recall 0 and precision 1, as scikit-learn draws it, so that t = 0 counts 1. Equal scores
  are one threshold.

  Args:
    scores: f32[N] of one class.
    positive: bool[N].
  """
  order = np.argsort(-scores, kind="stable")
  ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
  hits = np.cumsum(positive[order])[ends]
  precision = np.append(hits / (ends + 1), 1.0)
  recall = np.append(hits / max(positive.sum(), 1), 0.0)
  # t as the original's arange makes it; a recall that equals it must not fall below by rounding.
  return float(np.mean([precision[recall >= t - 1e-9].max(initial=0.0)
                        for t in np.linspace(0, 1, 11)]))


def map11(scores: np.ndarray, target: np.ndarray) -> float:
  """The mean of `average_precision_11` over the classes that have an image."""
  return 100.0 * float(np.mean([average_precision_11(scores[:, c], target[:, c])
                                for c in range(target.shape[1]) if target[:, c].any()]))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
  "top1": top1, "mean_per_class": mean_per_class, "map11": map11}


def interval(metric: str, scores: np.ndarray, target: np.ndarray) -> float | None:
  """Half the width of the 95 % interval over draws of test images, in points; None for map11.

  The normal interval of a share; for the mean over classes, of the mean of independent shares.
  """
  if metric == "map11":
    return None
  hit = np.take_along_axis(target, scores.argmax(axis=1)[:, None], axis=1)[:, 0]
  if metric == "top1":
    return 196.0 * float(np.sqrt(hit.mean() * (1 - hit.mean()) / len(hit)))
  support = target.sum(axis=0)
  support, hits = support[support > 0], (hit[:, None] * target).sum(axis=0)[support > 0]
  share = hits / support
  return 196.0 * float(np.sqrt(np.sum(share * (1 - share) / support)) / len(support))
