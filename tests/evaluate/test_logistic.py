"""Logistic regression against scikit-learn and the laws of its optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ssl_jax.evaluate import logistic_regression


def clusters(N, F, C, seed=0, spread=2.0):
  """Overlapping classes with an ill-conditioned, uncentred covariance."""
  generator = np.random.default_rng(seed)
  labels = generator.integers(0, C, N)
  scales = np.geomspace(3, 0.1, F)
  x = (generator.normal(size=(C, F))[labels] + spread * generator.normal(size=(N, F))) * scales + 2
  return x.astype(np.float32), labels.astype(np.int32)


def objective(x, y, kernel, bias, l2, weights=1.0):
  logits = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64) + np.asarray(bias, np.float64)
  log_prob = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)
                             ) - logits.max(1, keepdims=True)
  return -(weights * log_prob[np.arange(len(y)), y]).sum() + l2 / 2 * (kernel**2).sum()


L2 = (0.1, 3.0, 100.0)


@pytest.mark.parametrize("N,F,C", [(200, 10, 4), (30, 60, 3), (200, 5, 2)])
def test_it_is_scikit_learns_solution(N, F, C):
  x, y = clusters(N, F, C)
  found = logistic_regression(x, y, jnp.array(L2), num_classes=C)
  for i, l2 in enumerate(L2):
    # Two classes are two rows of scores here and one there: with a penalty on both rows the same
    # model costs half, which C doubled undoes.
    with threadpool_limits(1):  # on busy cores its threads wait for each other
      peer = LogisticRegression(C=(2 if C == 2 else 1) / l2, tol=1e-7, max_iter=3000).fit(
          x.astype(np.float64), y)
    kernel, bias = peer.coef_.T, peer.intercept_
    if C == 2:
      kernel, bias = np.hstack([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
    want = objective(x, y, kernel, bias, l2)
    got = objective(x, y, np.asarray(found.kernel[i]), np.asarray(found.bias[i]), l2)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    np.testing.assert_allclose(found.loss[i], got, rtol=1e-4)
    agree = (np.asarray(found.logits(x)[i]).argmax(1) == (x @ kernel + bias).argmax(1)).mean()
    assert agree >= 0.98


def test_weights_zero_leave_out_and_weights_two_count_twice():
  x, y = clusters(60, 6, 3)
  weights = np.tile([0.0, 1.0, 2.0], 20)
  rows = np.repeat(np.arange(60), weights.astype(int))
  l2 = jnp.array([1.0, 1.0])
  both = logistic_regression(x, y, l2, num_classes=3, weights=jnp.array([weights, np.ones(60)]),
                             tolerance=1e-7)
  repeated = logistic_regression(x[rows], y[rows], l2[:1], num_classes=3, tolerance=1e-7)
  plain = logistic_regression(x, y, l2[:1], num_classes=3, tolerance=1e-7)
  np.testing.assert_allclose(both.loss, [repeated.loss[0], plain.loss[0]], rtol=1e-5)
  np.testing.assert_allclose(both.kernel[0], repeated.kernel[0], atol=5e-3)


def test_a_stronger_penalty_gives_a_smaller_kernel_and_a_free_intercept():
  x, y = clusters(200, 5, 3)
  y[:120] = 0
  found = logistic_regression(x, y, jnp.array([1e-2, 1.0, 1e2, 1e7]), num_classes=3)
  norms = np.linalg.norm(found.kernel.reshape(4, -1), axis=1)
  assert (np.diff(norms) < 0).all()
  share = jax.nn.softmax(found.logits(x)[3])[0]
  np.testing.assert_allclose(share, np.bincount(y) / 200, atol=2e-3)


def test_moving_the_features_moves_only_the_intercept():
  x, y = clusters(150, 6, 3)
  here, there = (logistic_regression(x + shift, y, jnp.array([1.0]), num_classes=3)
                 for shift in (0.0, 30.0))
  np.testing.assert_allclose(here.loss, there.loss, rtol=1e-4)
  np.testing.assert_allclose(here.logits(x)[0], there.logits(x + 30)[0], atol=0.05)


def test_separable_classes_and_dead_features_stay_finite():
  x, y = np.eye(6, dtype=np.float32).repeat(5, 0), np.arange(6).repeat(5)
  x = np.hstack([x, np.zeros((30, 4), np.float32)])
  found = logistic_regression(x, y, jnp.array([1e-6, 1e-2]), num_classes=6)
  assert np.isfinite(found.kernel).all() and np.isfinite(found.loss).all()
  assert (found.logits(x).argmax(-1) == y).all()
  dead = logistic_regression(np.ones((12, 3), np.float32), np.arange(12) % 3, jnp.array([1.0]),
                             num_classes=3)
  np.testing.assert_allclose(dead.loss, 12 * np.log(3), rtol=1e-5)
