"""From figures of many encoders on many sets: correlations, ranks, and which ranks differ."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from ssl_jax.errors import UserError


def logit(share: np.ndarray) -> np.ndarray:
  """ln(p / (1 - p)) of shares p in (0, 1).

  What Kornblith et al. 2018 (arXiv:1805.08974, section 3.2) and Ericsson et al. 2020
  (arXiv:2011.13377, appendix A.7) compare accuracies by: from 98 to 99 % is as far as from 50 to
  67 %.

  Raises:
    UserError: A value is not between 0 and 1.
  """
  share = np.asarray(share, np.float64)
  if not ((share > 0) & (share < 1)).all():
    raise UserError(f"the logit of {share[~((share > 0) & (share < 1))][0]} does not exist; give "
                    "shares between 0 and 1, not percent")
  return np.log(share / (1 - share))


def pearson(x: np.ndarray, y: np.ndarray) -> float:
  """Pearson's r of two [M]; nan if one is constant or M < 2."""
  x, y = (np.asarray(v, np.float64) - np.mean(v) for v in (x, y))
  with np.errstate(invalid="ignore"):
    return float(x @ y / np.sqrt(x @ x * (y @ y)))


def ranks(values: np.ndarray, *, higher_is_better: bool = True) -> np.ndarray:
  """Ranks f64[..., M] along the last axis, 1 being the best; equals share the mean of theirs."""
  values = np.asarray(values, np.float64)
  return stats.rankdata(-values if higher_is_better else values, axis=-1)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
  """Spearman's rho of two [M]: Pearson's r of the ranks; nan if one is constant."""
  return pearson(ranks(x), ranks(y))


class Ranking(NamedTuple):
  """Encoders ranked over several sets.

  Attributes:
    mean: f64[M], the mean rank of each encoder.
    p_value: Of Friedman's test that all are alike; nan with fewer than three encoders.
    difference: The critical difference: mean ranks further apart than this differ (Nemenyi).
    cliques: Groups of encoders, as indices, best first, within which no two differ.
  """

  mean: np.ndarray
  p_value: float
  difference: float
  cliques: tuple[tuple[int, ...], ...]


def compare(scores: np.ndarray, *, alpha: float = 0.05) -> Ranking:
  """Ranks encoders on every set and says which mean ranks differ.

  Demsar 2006, "Statistical comparisons of classifiers over multiple data sets", section 3.2.2:
  Friedman's test, then Nemenyi's critical difference q_alpha sqrt(M (M + 1) / (6 N)), where q is
  the studentized range of infinite degrees of freedom over sqrt(2).

  Args:
    scores: [N, M], N sets by M encoders, M >= 2; higher is better.
    alpha: The level of the tests.
  """
  scores = np.asarray(scores, np.float64)
  N, M = scores.shape
  mean = ranks(scores).mean(0)
  p_value = float(stats.friedmanchisquare(*scores.T).pvalue) if M > 2 and N > 1 else float("nan")
  q = float(stats.studentized_range.ppf(1 - alpha, M, np.inf)) / np.sqrt(2)
  difference = float(q * np.sqrt(M * (M + 1) / (6 * N)))
  return Ranking(mean, p_value, difference, _cliques(mean, difference))


def _cliques(mean: np.ndarray, difference: float) -> tuple[tuple[int, ...], ...]:
  """The largest runs of two or more in the order of the mean ranks that span no more."""
  order: Sequence[int] = np.argsort(mean, kind="stable").tolist()
  found, reached = [], 0
  for first in range(len(order)):
    last = max(j for j in range(first, len(order))
               if mean[order[j]] - mean[order[first]] <= difference)
    if last > first and last + 1 > reached:
      found.append(tuple(order[first:last + 1]))
      reached = last + 1
  return tuple(found)
