"""The figures of a saliency map against counting, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score

from ssl_jax.saliency import measures


@pytest.fixture(scope="module")
def pair():
  rng = np.random.default_rng(0)
  mask = rng.random((9, 11)) < 0.3
  return np.clip(0.4 * mask + 0.6 * rng.random(mask.shape), 0, 1), mask


def test_precision_and_recall_at_every_threshold(pair):
  saliency, mask = pair
  precision, recall = measures.precision_recall(saliency, mask)
  for threshold in (0, 60, 100, 180):
    claimed = np.rint(255 * saliency) >= threshold
    assert precision[threshold] == pytest.approx(precision_score(mask.ravel(), claimed.ravel()))
    assert recall[threshold] == pytest.approx(recall_score(mask.ravel(), claimed.ravel()))
  assert precision[0] == mask.mean() and recall[0] == 1


def test_a_perfect_map_scores_1_and_an_empty_one_0(pair):
  _, mask = pair
  assert measures.summary([(mask.astype(float), mask)]) == {
      "max_f": 1.0, "adaptive_f": 1.0, "mae": 0.0}
  empty = measures.summary([(np.zeros(mask.shape), mask)])
  # Everything is claimed at threshold 0, so the precision is the mask's share.
  share = mask.mean()
  assert empty["max_f"] == pytest.approx(1.3 * share / (0.3 * share + 1))
  assert empty["mae"] == pytest.approx(share)


def test_the_adaptive_threshold_is_twice_the_mean():
  saliency = np.array([[0.0, 0.0, 0.3, 0.9]])  # the mean is 0.3, the threshold 0.6
  assert measures.adaptive_f(saliency, np.array([[False, False, True, True]])) == pytest.approx(
      1.3 * 1 * 0.5 / (0.3 * 1 + 0.5))
  # A map of one value claims all of itself, though twice its mean is out of reach.
  assert measures.adaptive_f(np.full((1, 4), 0.8), np.array([[True, True, False, False]])) == (
      pytest.approx(1.3 * 0.5 / (0.3 * 0.5 + 1)))


def test_one_threshold_serves_all_images(pair):
  saliency, mask = pair
  together = measures.summary([(saliency, mask), (saliency / 2, mask)])["max_f"]
  assert together < measures.summary([(saliency, mask)])["max_f"]
  assert measures.summary([(saliency, mask)] * 2) == pytest.approx(
      measures.summary([(saliency, mask)]))
