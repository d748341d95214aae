"""How well a saliency map agrees with a mask: F-beta and the mean absolute error.

As is usual since Achanta et al., "Frequency-tuned Salient Region Detection", CVPR 2009: beta^2 is
0.3, so that precision counts more, and the adaptive threshold is twice the map's mean.
"""

import numpy as np

BETA2 = 0.3
THRESHOLDS = 256


def f_beta(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
  """(1 + beta^2) P R / (beta^2 P + R), and 0 where both are 0."""
  below = BETA2 * precision + recall
  return np.divide((1 + BETA2) * precision * recall, below, out=np.zeros_like(below),
                   where=below > 0)


def precision_recall(saliency: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Precision and recall of `saliency >= t / 255` for t from 0 to 255: f64[2,256].

  Args:
    saliency: f[H,W] in [0, 1].
    mask: bool[H,W]; at least one pixel is foreground.

  Where nothing is claimed the precision is 1 by convention: no claim is wrong.
  """
  level = np.rint(255 * saliency).astype(int)
  counts = [np.bincount(level[chosen], minlength=THRESHOLDS)[::-1].cumsum()[::-1]
            for chosen in (mask, ~mask)]
  claimed = counts[0] + counts[1]
  precision = np.divide(counts[0], claimed, out=np.ones(THRESHOLDS), where=claimed > 0)
  return np.stack([precision, counts[0] / mask.sum()])


def adaptive_f(saliency: np.ndarray, mask: np.ndarray) -> float:
  """F-beta at twice the map's mean, or at its maximum if that is less: from 0 to 1."""
  claimed = saliency >= min(2 * saliency.mean(), saliency.max())
  hit = (claimed & mask).sum()
  return float(f_beta(np.float64(hit / max(claimed.sum(), 1)), np.float64(hit / mask.sum())))


def absolute_error(saliency: np.ndarray, mask: np.ndarray) -> float:
  """The mean of |saliency - mask| over the pixels, from 0 to 1."""
  return float(np.abs(saliency - mask).mean())


def summary(pairs) -> dict[str, float]:
  """The figures of many maps.

  Args:
    pairs: An iterable of (saliency f[H,W], mask bool[H,W]).

  Returns:
    {"max_f", "adaptive_f", "mae"}: the largest F-beta of the mean precision and the mean recall at
    one threshold for all images, and the means of the other two over the images.
  """
  curves, adaptive, error = [], [], []
  for saliency, mask in pairs:
    curves.append(precision_recall(saliency, mask))
    adaptive.append(adaptive_f(saliency, mask))
    error.append(absolute_error(saliency, mask))
  return {"max_f": float(f_beta(*np.mean(curves, axis=0)).max()),
          "adaptive_f": float(np.mean(adaptive)), "mae": float(np.mean(error))}
