"""The 45-value protocol and its solvers against scikit-learn."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ssl_jax.errors import UserError
from ssl_jax.evaluate import many_shot as module
from ssl_jax.evaluate.many_shot import GRID, Labelled, converged, labelled, many_shot, sklearn_path
from ssl_jax.evaluate.metrics import map11
from ssl_jax.evaluate.path import SIGMOID, SOFTMAX, regularisation_path

DIGITS, NUMBERS = load_digits(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(NUMBERS))
PARTS = [(DIGITS[rows].astype(np.float32), NUMBERS[rows])
         for rows in (ORDER[:400], ORDER[400:700], ORDER[700:])]
TRAIN, VALIDATION, TEST = (labelled(*part, 10) for part in PARTS)
L2 = np.array([1e-2, 1.0, 1e2, 1e4])


@pytest.fixture(scope="module")
def peers():
  """scikit-learn's converged classifiers, in f64."""
  with threadpool_limits(1):
    return [LogisticRegression(C=1 / l2, tol=1e-10, max_iter=10000).fit(
        PARTS[0][0].astype(np.float64), PARTS[0][1]) for l2 in L2]


def objective(peer_kernel, bias, l2, data=TRAIN):
  z = data.features.astype(np.float64) @ peer_kernel + bias
  z = z - z.max(1, keepdims=True)
  return -(z[data.target] - np.log(np.exp(z).sum(1))).sum() + l2 / 2 * (peer_kernel**2).sum()


def test_the_grid_is_the_papers():
  assert len(GRID) == 45 and GRID[1] / GRID[0] == pytest.approx(1.7782794)
  assert 1 / GRID[0] == pytest.approx(1e6) and 1 / GRID[-1] == pytest.approx(1e-5)


@pytest.mark.parametrize("slots", [1, 3])
def test_a_path_ends_at_scikit_learns_solutions(peers, slots):
  found = converged(TRAIN, L2, SOFTMAX, None, slots=slots)
  for i, (peer, l2) in enumerate(zip(peers, L2)):
    got = objective(found.kernel[i], found.bias[i], l2)
    assert got <= objective(peer.coef_.T, peer.intercept_, l2) * (1 + 1e-5)
    assert found.loss[i] == pytest.approx(got, rel=1e-4)
    predicted = (TEST.features @ found.kernel[i] + found.bias[i]).argmax(1)
    assert (predicted == peer.predict(PARTS[2][0])).mean() >= 0.998


def test_the_protocol_chooses_and_scores_as_scikit_learn_does(peers):
  got = many_shot(TRAIN, VALIDATION, TEST, grid=tuple(L2))
  judged = [100 * peer.score(*PARTS[1]) for peer in peers]
  np.testing.assert_allclose(got.validation, judged, atol=0.34)  # one image of 300
  best = int(np.argmax(judged))
  assert got.l2 == L2[best]
  x, y = (np.concatenate(pair) for pair in zip(*PARTS[:2]))
  with threadpool_limits(1):
    peer = LogisticRegression(C=1 / got.l2, tol=1e-10, max_iter=10000).fit(x.astype(np.float64), y)
  assert got.value == pytest.approx(100 * peer.score(*PARTS[2]), abs=0.1)
  np.testing.assert_allclose(got.probabilities, peer.predict_proba(PARTS[2][0]), atol=0.01)


def test_a_start_elsewhere_ends_at_the_same_place():
  near = converged(TRAIN, L2, SOFTMAX, None)
  far = converged(TRAIN, L2[2:3], SOFTMAX, module.Fit(*(-v[2:3] for v in near)))
  np.testing.assert_allclose(far.loss, near.loss[2:3], rtol=1e-5)
  np.testing.assert_allclose(far.kernel, near.kernel[2:3], atol=2e-3)


def test_separate_classes_are_separate_binary_problems_of_scikit_learn():
  target = np.stack([NUMBERS[ORDER[:400]] % k == 0 for k in (2, 3)], axis=1)
  scale = Labelled(TRAIN.features / 16, target)
  found, _ = regularisation_path(scale.features, target, jnp.array([2.0, 0.5]), link=SIGMOID)
  for c in range(2):
    peer = LogisticRegression(C=2.0, tol=1e-7, max_iter=5000).fit(
        scale.features.astype(np.float64), target[:, c])
    np.testing.assert_allclose(found.kernel[1][:, c], peer.coef_[0], atol=5e-3)


def test_several_classes_an_image_are_judged_by_eleven_point_precision():
  def multiple(part):
    return Labelled(part.features / 16, part.target[:, :2] | part.target[:, 2:4])
  parts = [multiple(part) for part in (TRAIN, VALIDATION, TEST)]
  got = many_shot(*parts, metric="map11", grid=(0.1, 10.0))
  assert got.value == pytest.approx(map11(got.logits, parts[2].target))
  assert got.value > 90 and got.interval is None
  with pytest.raises(UserError, match="use map11"):
    many_shot(*parts, grid=(1.0,))


def test_the_originals_path_is_scikit_learns_early_stopped_one():
  weak_first = np.array([1e-3, 1e-1])
  got = sklearn_path(TRAIN, weak_first, SOFTMAX, None)
  peer = LogisticRegression(warm_start=True, max_iter=100, tol=0.0)
  best = converged(TRAIN, weak_first, SOFTMAX, None).loss
  for i, l2 in enumerate(weak_first):
    with warnings.catch_warnings(), threadpool_limits(1):
      warnings.simplefilter("ignore")
      peer.set_params(C=1 / l2).fit(PARTS[0][0].astype(np.float64), PARTS[0][1])
    want = objective(peer.coef_.T, peer.intercept_, l2)
    assert best[i] < min(want, got.loss[i]) and got.loss[i] == pytest.approx(want, rel=0.3)


def test_the_test_labels_choose_nothing_and_empty_parts_are_told():
  blind = many_shot(TRAIN, VALIDATION, TEST._replace(target=np.roll(TEST.target, 1, 1)),
                    grid=tuple(L2))
  assert blind.l2 == many_shot(TRAIN, VALIDATION, TEST, grid=tuple(L2)).l2 and blind.value < 10
  with pytest.raises(UserError, match="the validation part holds no labelled image"):
    many_shot(TRAIN, labelled(PARTS[1][0], np.full(300, -1), 10), TEST)
  assert set(module.SOLVERS) == {"converged", "sklearn_path"}
