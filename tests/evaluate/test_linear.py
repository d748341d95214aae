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


def test_more_features_than_images_ask_for_a_strong_penalty():
  data = [clusters(n, F=100, noise=4.0, seed=n) for n in (120, 1000)]
  free, held, chosen = (linear_probe(*data, num_classes=4, grid=grid)
                        for grid in ((0.1,), (300.0,), (0.1, 300.0)))
  assert held["top1"] > free["top1"] + 2
  assert chosen["l2"] == 300 and chosen["top1"] == pytest.approx(held["top1"], abs=0.11)


def test_images_without_label_are_left_out():
  x, y = TRAIN
  more = np.concatenate([x, 100 + x]), np.concatenate([y, np.full_like(y, -1)])
  got = linear_probe(more, TEST, num_classes=4)
  assert got == linear_probe(TRAIN, TEST, num_classes=4)


def test_a_few_labels_are_worse_than_all_and_better_than_chance():
  few = few_label_probe(TRAIN, TEST, num_classes=4, per_class=5, draws=4)
  assert 35 < few["top1"] < linear_probe(TRAIN, TEST, num_classes=4)["top1"]
  assert 0 < few["top1_std"] < 20


def test_images_that_are_not_drawn_are_not_seen():
  x, y = clusters(20)
  few = few_label_probe((x, y), TEST, num_classes=4, per_class=5, draws=4)
  more = np.concatenate([x, 1e3 + x]), np.concatenate([y, np.full(20, -1)])
  got = few_label_probe(more, TEST, num_classes=4, per_class=5, draws=4)
  assert got["top1"] == pytest.approx(few["top1"], abs=0.26)


def test_draws_follow_the_seed():
  once, again, other = (few_label_probe(TRAIN, TEST, num_classes=4, per_class=5, draws=4, seed=s)
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
