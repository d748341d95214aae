"""Metrics against hand-made examples, scikit-learn and naive loops."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, precision_recall_curve

from ssl_jax.evaluate.metrics import (
  average_precision_11,
  interval,
  map11,
  mean_per_class,
  top1,
)

GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.normal(size=(60, 5)).round(1)
LABELS = GENERATOR.integers(0, 4, 60)  # class 4 has no image
TARGET = LABELS[:, None] == np.arange(5)


def naive_ap(scores, positive):
  precision, recall, _ = precision_recall_curve(positive, scores)
  return sum(max([p for p, r in zip(precision, recall) if r >= t - 1e-9], default=0)
             for t in np.linspace(0, 1, 11)) / 11


def test_eleven_point_precision_of_the_papers_example():
  got = average_precision_11(np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 0, 1, 0], bool))
  assert got == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_eleven_point_precision_is_that_of_scikit_learns_curve_with_ties_too():
  target = GENERATOR.random((60, 3)) < 0.3
  for c in range(3):
    assert average_precision_11(SCORES[:, c], target[:, c]) == pytest.approx(
        naive_ap(SCORES[:, c], target[:, c]))
  want = 100 * np.mean([naive_ap(SCORES[:, c], target[:, c]) for c in range(3)])
  assert map11(SCORES[:, :3], target) == pytest.approx(want)


def test_the_mean_over_classes_leaves_out_those_without_images():
  predicted = SCORES.argmax(axis=1)
  assert (predicted == 4).any()  # where a confusion matrix would divide by zero
  want = np.mean([(predicted[c == LABELS] == c).mean() for c in range(4)])
  assert mean_per_class(SCORES, TARGET) == pytest.approx(100 * want)
  with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
    assert mean_per_class(SCORES, TARGET) == pytest.approx(
        100 * balanced_accuracy_score(LABELS, predicted))
  assert top1(SCORES, TARGET) == pytest.approx(100 * (predicted == LABELS).mean())


def test_an_interval_holds_the_truth_95_times_of_100():
  draws = np.random.default_rng(1)
  for metric, score in (("top1", top1), ("mean_per_class", mean_per_class)):
    held = 0
    for _ in range(400):
      labels = draws.choice(3, 200, p=(0.6, 0.3, 0.1))
      right = draws.random(200) < np.array([0.9, 0.5, 0.6])[labels]
      scores = np.eye(3)[np.where(right, labels, (labels + 1) % 3)]
      target = labels[:, None] == np.arange(3)
      truth = 100 * {"top1": 0.75, "mean_per_class": 2 / 3}[metric]
      held += abs(score(scores, target) - truth) <= interval(metric, scores, target)
    assert 0.92 <= held / 400 <= 0.975
  assert interval("map11", SCORES, TARGET) is None
