"""The benchmark of the 45 penalties: what it is run on, and what it compares."""

import numpy as np
import pytest

from benchmarks import logistic


def test_the_made_features_are_like_a_networks():
  x, y = logistic.features(300, 32, 10)
  assert x.shape == (300, 32) and x.dtype == np.float32 and (x >= 0).all()
  assert (np.bincount(y) == 30).all()
  spread = np.linalg.eigvalsh(np.cov(x.T))
  assert spread[-1] > 8 * np.median(spread)
  assert (logistic.features(300, 32, 10)[0] == x).all()


def test_the_objective_is_the_sum_of_losses_and_the_penalty():
  x, y = logistic.features(40, 8, 4)
  nothing = logistic.objective(x, y, np.zeros((8, 4)), np.zeros(4), 3.0)
  assert nothing == pytest.approx(40 * np.log(4))
  one = np.full((8, 4), 0.5)  # equal for all classes: only the penalty changes
  assert logistic.objective(x, y, one, np.zeros(4), 3.0) == pytest.approx(nothing + 1.5 * 8)


@pytest.mark.parametrize("name", ["digits", "fashion_mnist_mini"])
def test_the_real_sets_are_divided_without_overlap(name):
  parts = logistic.real(name)
  assert [len(y) for _, y in parts] == list(logistic.PARITY[name])
  assert all(x.min() >= 0 and x.max() <= 1 for x, _ in parts)
  rows = np.concatenate([x for x, _ in parts])
  assert len(np.unique(rows, axis=0)) > 0.99 * len(rows)
