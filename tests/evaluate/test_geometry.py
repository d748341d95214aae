"""Distances of classes, alignment and uniformity against loops over pairs."""

import itertools

import numpy as np

from ssl_jax.evaluate.geometry import alignment, class_distances, uniformity


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_class_distances_are_the_loops():
  random = np.random.default_rng(0)
  x = random.normal(size=(23, 4)).astype(np.float32)
  labels = np.array([0] * 7 + [1] * 9 + [3] + [-1] * 6)  # 2 is empty, 3 has one image
  found = class_distances(x, labels, num_classes=4)
  z = {c: unit(x[labels == c].astype(np.float64)) for c in (0, 1, 3)}
  mean = {c: v.mean(0) for c, v in z.items()}

  def distance(a, b):
    return np.linalg.norm(a - b)

  want = {
      "intra_pairs": np.mean([np.mean([distance(a, b) for a, b in itertools.combinations(z[c], 2)])
                              for c in (0, 1)]),
      "intra_centre": np.mean([np.mean([distance(a, mean[c]) for a in z[c]]) for c in (0, 1)]),
      "inter_pairs": np.mean([np.mean([distance(a, b) for a in z[c] for b in z[d]])
                              for c, d in ((0, 1), (0, 3), (1, 3))]),
      "inter_centre": np.mean([distance(mean[c], mean[d]) for c, d in ((0, 1), (0, 3), (1, 3))]),
  }
  want["ratio"] = want["intra_pairs"] / want["inter_pairs"]
  for name, value in want.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


def test_classes_that_are_points_have_no_inner_distance():
  found = class_distances(np.eye(3, dtype=np.float32).repeat(4, 0), np.arange(3).repeat(4),
                          num_classes=3)
  np.testing.assert_allclose(found["intra_pairs"], 0, atol=1e-3)
  np.testing.assert_allclose(found["inter_pairs"], np.sqrt(2), rtol=1e-4)


def test_alignment_and_uniformity_are_the_formulas():
  random = np.random.default_rng(0)
  a, b = random.normal(size=(2, 9, 3)).astype(np.float32)
  np.testing.assert_allclose(alignment(a, b), np.square(unit(a) - unit(b)).sum(1).mean(), rtol=1e-5)
  np.testing.assert_allclose(alignment(a, 5 * a), 0, atol=1e-6)
  np.testing.assert_allclose(alignment(a, -a), 4, rtol=1e-5)
  pairs = [np.exp(-2 * np.square(x - y).sum()) for x, y in itertools.combinations(unit(a), 2)]
  np.testing.assert_allclose(uniformity(a), np.log(np.mean(pairs)), rtol=1e-4)
  np.testing.assert_allclose(uniformity(np.ones((5, 3), np.float32)), 0, atol=1e-5)
  np.testing.assert_allclose(uniformity(np.float32([[1, 0], [-3, 0]])), -8, rtol=1e-5)
