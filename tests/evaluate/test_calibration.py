"""Calibration against loops over bins, scipy's minimiser, and constructed classifiers."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from ssl_jax.errors import UserError
from ssl_jax.evaluate.calibration import (
    calibration_error,
    fit_temperature,
    reliability,
    temperature_scaling,
)


def softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def classifier(N=300, C=5, scale=3.0, seed=0):
  """Logits whose best temperature is near `scale`, and labels."""
  random = np.random.default_rng(seed)
  z = random.normal(size=(N, C)) * 1.5
  labels = np.array([random.choice(C, p=p) for p in softmax(z)])
  return (scale * z).astype(np.float32), labels.astype(np.int32)


def naive_error(probabilities, labels, bins):
  total = 0.0
  for b in range(bins):
    rows = [i for i, p in enumerate(probabilities) if b / bins < p.max() <= (b + 1) / bins]
    if rows:
      right = np.mean([probabilities[i].argmax() == labels[i] for i in rows])
      total += len(rows) * abs(right - np.mean([probabilities[i].max() for i in rows]))
  return 100 * total / len(labels)


@pytest.mark.parametrize("bins", [15, 4])
def test_the_error_is_the_loop_over_bins(bins):
  logits, labels = classifier()
  probabilities = softmax(logits)
  diagram = reliability(probabilities, labels, bins)
  assert diagram.count.sum() == 300
  np.testing.assert_allclose(calibration_error(diagram), naive_error(probabilities, labels, bins),
                             rtol=1e-4)


def test_golden_values():
  sure = np.eye(4, dtype=np.float32)
  np.testing.assert_allclose(calibration_error(reliability(sure, np.arange(4))), 0, atol=1e-6)
  np.testing.assert_allclose(calibration_error(reliability(sure, (np.arange(4) + 1) % 4)), 100)
  three_quarters = np.tile(np.float32([0.75, 0.25]), (8, 1))
  half = reliability(three_quarters, np.arange(8) % 2)
  np.testing.assert_allclose(calibration_error(half), 25, rtol=1e-5)
  np.testing.assert_allclose([half.count.max(), half.confidence.max(), half.accuracy.max()],
                             [8, 0.75, 0.5])


def test_intervals_are_closed_above_and_an_unlabelled_image_does_not_count():
  probabilities = np.float32([[0.5, 0.5], [0.6, 0.4], [1.0, 0.0]])
  assert reliability(probabilities, np.array([0, 0, 0]), 2).count.tolist() == [1, 2]
  assert reliability(probabilities, np.array([0, -1, 0]), 2).count.tolist() == [1, 1]


def test_the_temperature_is_the_minimum_of_the_cross_entropy():
  logits, labels = classifier()

  def loss(log_t):
    return -np.log(softmax(logits.astype(np.float64) / np.exp(log_t)))[
        np.arange(len(labels)), labels].mean()

  want = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded",
                                options={"xatol": 1e-8}).x)
  found = fit_temperature(logits, labels)
  np.testing.assert_allclose(found, want, rtol=1e-3)
  assert 2.5 < found < 3.5
  # Logits matter but for a number per row, so log-probabilities do as well.
  np.testing.assert_allclose(fit_temperature(np.log(softmax(logits)), labels), found, rtol=1e-3)
  with_unlabelled = np.concatenate([logits, -logits[:50]]), np.append(labels, np.full(50, -1))
  np.testing.assert_allclose(fit_temperature(*with_unlabelled), found, rtol=1e-4)


def test_scaling_follows_the_five_folds_of_the_released_code():
  logits, labels = classifier(N=303, scale=4.0)
  np.random.seed(0)
  order = np.arange(303)
  np.random.shuffle(order)  # the global state of their code
  errors, temperatures = [], []
  for fold in range(5):
    fit = order[60 * fold:60 * (fold + 1)]
    judge = [i for i in order[:300] if i not in fit]
    temperatures.append(float(fit_temperature(logits[fit], labels[fit])))
    errors.append(naive_error(softmax(logits[judge] / temperatures[-1]), labels[judge], 15))
  scores = temperature_scaling(logits, labels)
  np.testing.assert_allclose(scores["ece_scaled"], np.mean(errors), rtol=1e-4)
  np.testing.assert_allclose(scores["temperature"], np.mean(temperatures), rtol=1e-5)
  np.testing.assert_allclose(scores["ece"], naive_error(softmax(logits), labels, 15), rtol=1e-4)
  assert scores["ece_scaled"] < scores["ece"] / 2
  with pytest.raises(UserError, match="at least 5"):
    temperature_scaling(logits[:4], labels[:4])
