"""Durations in every unit, and curves against the papers' values."""

import jax
import numpy as np
import pytest

from ssl_jax import schedules
from ssl_jax.errors import UserError

IMAGENET = 1281167


@pytest.mark.parametrize("config,want", [
    ({"total_steps": 7}, 7),
    ({"total_epochs": 1000, "total_steps": None}, 312784),  # BYOL's published run lengths
    ({"total_epochs": 300}, 93835),
    ({"total_epochs": 100}, 31278),
    ({"total_examples": 10000}, 2),
    ({"total_percent": 5}, 50),
    ({"total_epochs": 0}, 0),
])
def test_a_duration_is_converted_to_steps(config, want):
  got = schedules.steps("total", config, batch_size=4096, num_examples=IMAGENET, total_steps=1000)
  assert got == want and isinstance(got, int)


def test_the_probe_of_the_paper_has_its_published_length():
  assert schedules.steps("total", {"total_epochs": 100}, batch_size=1024,
                         num_examples=IMAGENET) == 125113


@pytest.mark.parametrize("tenths", range(1, 30))
def test_fractional_epochs_are_decimals(tenths):
  got = schedules.steps("x", {"x_epochs": tenths / 10}, batch_size=1, num_examples=1000)
  assert got == tenths * 100


@pytest.mark.parametrize("config,words", [
    ({}, ["warmup_steps", "warmup_percent", "none"]),
    ({"warmup_steps": 3, "warmup_epochs": 4}, ["warmup_steps=3", "warmup_epochs=4"]),
    ({"warmup_steps": -3}, ["warmup_steps=-3", "negative"]),
    ({"warmup_steps": "many"}, ["warmup_steps=many", "number"]),
    ({"warmup_epochs": 3}, ["warmup_epochs=3", "warmup_steps"]),
    ({"warmup_percent": 3}, ["warmup_percent=3", "warmup_steps"]),
])
def test_a_wrong_duration_is_told_in_one_line(config, words):
  with pytest.raises(UserError) as error:
    schedules.steps("warmup", config, batch_size=8)
  assert all(w in str(error.value) for w in words) and "\n" not in str(error.value)


def test_more_than_all_is_no_share():
  with pytest.raises(UserError, match="warmup_percent=101"):
    schedules.steps("warmup", {"warmup_percent": 101}, batch_size=8, total_steps=10)


@pytest.mark.parametrize("step,want", [
    (0, 0.0), (1, 0.00102334505916), (3127, 3.2), (78196, 2.75796733), (156392, 1.62537866),
    (312783, 8.2e-11)])
def test_golden_learning_rate_of_byol(step, want):
  curve = jax.jit(schedules.warmup_cosine(3.2, warmup=3127, total=312784))
  np.testing.assert_allclose(curve(step), want, rtol=2e-6, atol=2e-7)


def test_warmup_starts_at_exactly_zero_and_the_cosine_ends_there():
  curve = schedules.warmup_cosine(1.0, warmup=10, total=100)
  assert curve(0) == 0
  np.testing.assert_allclose([curve(5), curve(10), curve(55), curve(100), curve(120)],
                             [.5, 1, .5, 0, 0], atol=1e-6)


def test_without_warmup_the_curve_starts_at_its_peak():
  assert schedules.warmup_cosine(2.0, warmup=0, total=10)(0) == 2


@pytest.mark.parametrize("warmup,total", [(10, 10), (40, 10), (0, 0)])
def test_a_warmup_that_does_not_fit_is_told(warmup, total):
  with pytest.raises(UserError, match=f"{warmup} steps does not fit in {total}"):
    schedules.warmup_cosine(1.0, warmup=warmup, total=total)


@pytest.mark.parametrize("step,want", [
    (0, 0.996), (1, 0.9960000000001), (3127, 0.99600098634935), (78196, 0.99658578643764),
    (156392, 0.998), (312783, 1.0)])
def test_golden_target_decay_of_byol(step, want):
  curve = jax.jit(schedules.ema_cosine(0.996, total=312784))
  np.testing.assert_allclose(curve(step), want, rtol=1e-7)


def test_target_decay_stays_at_one_after_the_end():
  assert schedules.ema_cosine(.9, total=10)(25) == 1


def test_moco_steps_down_at_its_boundaries():
  curve = schedules.step_decay(0.03, boundaries=(120, 160))
  np.testing.assert_allclose([curve(s) for s in (0, 119, 120, 159, 160, 199)],
                             [.03, .03, .003, .003, .0003, .0003], rtol=1e-6)


def test_cosine_by_epoch_moves_only_between_epochs():
  curve = schedules.cosine_by_epoch(0.03, steps_per_epoch=5, epochs=4)
  want = [0.03 * .5 * (1 + np.cos(np.pi * (s // 5) / 4)) for s in range(20)]
  np.testing.assert_allclose([curve(s) for s in range(20)], want, rtol=1e-6)


def test_warmup_cosine_by_epoch_does_not_end_at_zero():
  """A cosine over all epochs from the end of the warm-up on: that of 395 of 400 epochs."""
  curve = schedules.warmup_cosine_by_epoch(.48, warmup=15, steps_per_epoch=3, epochs=400)
  np.testing.assert_allclose([curve(s) for s in (0, 5, 10)], [.0048, .0048 + .4752 / 3,
                                                             .0048 + .4752 * 2 / 3], rtol=1e-5)
  for epoch in (5, 6, 200, 399):
    want = .48 * .5 * (1 + np.cos(np.pi * (epoch - 5) / 400))
    np.testing.assert_allclose([curve(3 * epoch), curve(3 * epoch + 2)], want, rtol=1e-4)
  np.testing.assert_allclose(curve(1199) / .48, 5.55e-4, rtol=2e-3)


def test_constant_is_constant():
  assert schedules.constant(.5)(0) == schedules.constant(.5)(10**6) == .5
