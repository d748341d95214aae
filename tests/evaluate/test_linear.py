"""Probes: what they choose, what they may look at, and what they say when they cannot."""

import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.evaluate import few_label_probe, linear_probe, logistic_regression


def clusters(N, F=12, C=4, seed=0, noise=1.5):
  centres = np.random.default_rng(7).normal(size=(C, F))
  generator = np.random.default_rng(seed)
  labels = np.arange(N) % C
  x = centres[labels] + noise * generator.normal(size=(N, F))
  return x.astype(np.float32), labels.astype(np.int32)


TRAIN, TEST = clusters(600, seed=1), clusters(400, seed=2)


def test_the_probe_scores_what_its_penalty_scores():
  got = linear_probe(TRAIN, TEST, num_classes=4)
  scale = np.sqrt(np.mean((TRAIN[0] - TRAIN[0].mean(0))**2))
  found = logistic_regression(TRAIN[0] / scale, TRAIN[1], np.array([got["l2"]]), num_classes=4)
  top1 = 100 * (np.asarray(found.logits(TEST[0] / scale)[0]).argmax(1) == TEST[1]).mean()
  assert got["top1"] == pytest.approx(top1, abs=0.26)  # one image of 400
  assert 60 < got["validation_top1"] < 100


def test_neither_scale_nor_place_of_the_features_matters():
  first = linear_probe(TRAIN, TEST, num_classes=4)
  moved = [(1e3 * x + 50, y) for x, y in (TRAIN, TEST)]
  second = linear_probe(*moved, num_classes=4)
  assert second["l2"] == first["l2"] and second["top1"] == pytest.approx(first["top1"], abs=0.26)


def test_the_test_labels_choose_nothing():
  honest = linear_probe(TRAIN, TEST, num_classes=4)
  blind = linear_probe(TRAIN, (TEST[0], (TEST[1] + 1) % 4), num_classes=4)
  assert blind["l2"] == honest["l2"] and blind["validation_top1"] == honest["validation_top1"]
  assert blind["top1"] < 25


def test_noise_asks_for_a_strong_penalty():
  x, y = clusters(200, noise=30.0)
  grid = (1e-2, 1e3)
  assert linear_probe((x, y), TEST, num_classes=4, grid=grid)["l2"] == 1e3


def test_images_without_label_are_left_out():
  x, y = TRAIN
  more = np.concatenate([x, 100 + x]), np.concatenate([y, np.full_like(y, -1)])
  got = linear_probe(more, TEST, num_classes=4)
  assert got == linear_probe(TRAIN, TEST, num_classes=4)


def test_a_few_labels_are_worse_than_all_and_better_than_chance():
  few = few_label_probe(TRAIN, TEST, num_classes=4, per_class=5, draws=4)
  assert 35 < few["top1"] < linear_probe(TRAIN, TEST, num_classes=4)["top1"]
  assert 0 < few["top1_std"] < 20


def test_a_few_labels_are_really_all_that_is_seen():
  """Every label but those of one image per pair is wrong: a probe that sees more would fail."""
  x, y = clusters(40, noise=0.01)
  alone = few_label_probe((x, y), TEST, num_classes=4, per_class=10, draws=1)
  again = few_label_probe((np.concatenate([x, 1e3 + x]), np.concatenate([y, np.full(40, -1)])),
                          TEST, num_classes=4, per_class=10, draws=1)
  assert alone["top1"] == pytest.approx(again["top1"], abs=0.26)


def test_draws_follow_the_seed():
  once, again, other = (few_label_probe(TRAIN, TEST, num_classes=4, per_class=3, draws=2, seed=s)
                        for s in (0, 0, 1))
  assert once == again != other


@pytest.mark.parametrize("call,words", [
    (lambda: few_label_probe(TRAIN, TEST, num_classes=4, per_class=151), ["class 0", "150", "151"]),
    (lambda: few_label_probe(TRAIN, TEST, num_classes=4, per_class=1), ["per_class=1"]),
    (lambda: linear_probe((TRAIN[0][:2], TRAIN[1][:2]), TEST, num_classes=4), ["2 labelled"]),
])
def test_too_few_images_are_told(call, words):
  with pytest.raises(UserError) as error:
    call()
  assert all(w in str(error.value) for w in words)
