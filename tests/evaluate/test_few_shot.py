"""Episodes: what is drawn, and the classifiers against scikit-learn on the same episodes."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from threadpoolctl import threadpool_limits

from ssl_jax.errors import UserError
from ssl_jax.evaluate.few_shot import draw_episodes, few_shot

GENERATOR = np.random.default_rng(0)
LABELS = np.concatenate([np.arange(6).repeat(30), [6] * 10, [-1] * 5])
FEATURES = (GENERATOR.normal(size=(8, 24))[LABELS]
            + 2 * GENERATOR.normal(size=(len(LABELS), 24)) + 3).astype(np.float32)


def naive(features, episodes, classify):
  """The accuracies of episodes, one at a time."""
  for support, query in zip(episodes.support, episodes.query):
    x, y = features[support].reshape(-1, 24), np.arange(len(support)).repeat(support.shape[1])
    q, answer = features[query].reshape(-1, 24), np.arange(len(query)).repeat(query.shape[1])
    yield 100 * (classify(x, y, q) == answer).mean()


def test_an_episode_has_different_images_of_its_classes_and_none_of_small_ones():
  episodes = draw_episodes(LABELS, ways=4, shots=3, queries=15, episodes=300)
  for classes, support, query in zip(episodes.classes, episodes.support, episodes.query):
    rows = np.concatenate([support, query], axis=1)
    assert len(set(classes)) == 4 and len(np.unique(rows)) == rows.size
    assert (LABELS[rows] == classes[:, None]).all()
  assert list(episodes.dropped) == [6]


def test_every_class_and_image_is_drawn_alike_and_the_seed_decides():
  settings = {"ways": 4, "shots": 3, "queries": 15, "episodes": 600}
  episodes = draw_episodes(LABELS, **settings)
  share = np.bincount(episodes.classes.ravel(), minlength=7) / 2400
  np.testing.assert_allclose(share, [1 / 6] * 6 + [0], atol=0.03)
  drawn = np.bincount(episodes.support.ravel(), minlength=180) / 600
  np.testing.assert_allclose(drawn[:180], 4 / 6 * 3 / 30, atol=0.06)
  again, other = (draw_episodes(LABELS, **settings, seed=seed) for seed in (0, 1))
  assert (again.support == episodes.support).all() and (other.support != episodes.support).any()


def test_prototypes_are_scikit_learns_nearest_centroids():
  episodes = draw_episodes(LABELS, shots=4, episodes=30)
  got = few_shot(FEATURES, episodes)
  want = list(naive(FEATURES, episodes, lambda x, y, q: NearestCentroid().fit(x, y).predict(q)))
  np.testing.assert_allclose(got["episodes"], want, atol=1e-3)
  assert got["top1"] == pytest.approx(np.mean(want), abs=1e-3)
  assert got["interval"] == pytest.approx(1.96 * np.std(want) / 30**0.5, abs=1e-3)


def test_logistic_regression_is_scikit_learns_on_unit_vectors():
  episodes = draw_episodes(LABELS, shots=4, episodes=30)

  def classify(x, y, q):
    unit = lambda v: v / (np.linalg.norm(v, axis=1, keepdims=True) + 1e-6)
    return LogisticRegression(max_iter=1000, tol=1e-7).fit(unit(x), y).predict(unit(q))

  with threadpool_limits(1):
    want = list(naive(FEATURES.astype(np.float64), episodes, classify))
  got = few_shot(FEATURES, episodes, classifier="logistic")
  # A query that lies between two classes may fall to either: one of 75 in an episode.
  np.testing.assert_allclose(got["episodes"], want, atol=100 / 75 + 1e-3)
  assert got["top1"] == pytest.approx(np.mean(want), abs=0.15)


def test_a_single_shot_and_its_own_image_is_always_right():
  episodes = draw_episodes(LABELS, shots=1, episodes=20)
  same = episodes._replace(query=episodes.support)
  assert few_shot(FEATURES, same)["top1"] == 100


def test_too_few_images_are_told():
  with pytest.raises(UserError, match="6 classes have 15 \\+ 15 images, fewer than 7 ways"):
    draw_episodes(LABELS, ways=7, shots=15)
