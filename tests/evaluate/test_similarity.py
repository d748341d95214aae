"""CKA against numpy and its laws; minibatch CKA against loops over Gram matrices."""

import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.evaluate.similarity import cka, hsic, minibatch_cka


def rows(n, p, seed=0):
  return np.random.default_rng(seed).normal(size=(n, p)).astype(np.float32) + 3


def naive_cka(x, y):
  """The form of features, in f64."""
  x, y = (v.astype(np.float64) - v.mean(0) for v in (x, y))
  return (np.linalg.norm(y.T @ x)**2
          / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def naive_hsic(x, y):
  """Song et al. 2012, equation 5, as it is written."""
  n = len(x)
  k, m = (v.astype(np.float64) @ v.T.astype(np.float64) for v in (x, y))
  np.fill_diagonal(k, 0)
  np.fill_diagonal(m, 0)
  one = np.ones(n)
  return (np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
          - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def test_both_forms_are_the_formula_and_agree():
  x, y = rows(40, 7), rows(40, 60, 1)
  y[:, :7] += x
  for a, b in ((x, y), (x, x[:, ::-1] * [[1, 2, 3, 4, 5, 6, 7]])):  # by Gram matrix; by features
    np.testing.assert_allclose(cka(a, b), naive_cka(a, b), rtol=1e-4)
  np.testing.assert_allclose(cka(y, x), cka(x, y), rtol=1e-5)


def test_its_laws():
  x = rows(50, 6)
  rotation = np.linalg.qr(rows(6, 6, 2))[0]
  np.testing.assert_allclose(cka(x, x), 1, rtol=1e-5)
  np.testing.assert_allclose(cka(x, 1e6 * x @ rotation - 3), 1, rtol=1e-5)
  assert cka(rows(1000, 10), rows(1000, 10, 1)) < 0.02
  assert cka(x, np.ones((50, 3), np.float32)) == 0


def test_hsic_is_the_formula_and_is_0_on_average():
  x, y = rows(12, 5), rows(12, 9, 1)
  np.testing.assert_allclose(hsic(x, y), naive_hsic(x, y), rtol=1e-3)
  draws = [float(hsic(rows(12, 5, 2 * i), rows(12, 9, 2 * i + 1))) for i in range(200)]
  assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(200)
  assert naive_cka(x, y) > 0.3  # what the other estimate makes of twelve images


def test_minibatches_average_hsic_of_every_pair_of_layers():
  def batch(seed):
    x = rows(16, 12, seed)
    return ({"low": x.reshape(16, 2, 2, 3), "high": x[:, :3] * 2},
            {"same": x, "other": rows(16, 5, seed + 100)})

  batches = [batch(i) for i in range(6)]
  found = minibatch_cka(batches)
  flat = [[{k: v.reshape(16, -1) for k, v in side.items()} for side in b] for b in batches]
  for i in ("low", "high"):
    for j in ("same", "other"):
      cross, own, theirs = (np.mean([naive_hsic(b[s][p], b[t][q]) for b in flat])
                            for s, p, t, q in ((0, i, 1, j), (0, i, 0, i), (1, j, 1, j)))
      np.testing.assert_allclose(found[i, j], cross / np.sqrt(own * theirs), rtol=2e-3, atol=1e-4)
  np.testing.assert_allclose(found["low", "same"], 1, rtol=1e-5)
  assert abs(found["low", "other"]) < 0.2
  with pytest.raises(UserError, match="at least 4"):
    minibatch_cka([({"a": rows(3, 2)}, {"a": rows(3, 2)})])
