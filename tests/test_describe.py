"""Warnings come for what is wrong, once, and for nothing else."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.describe import PATIENCE, Alarms
from ssl_jax.evaluate.collapse import feature_std

GOOD = {"loss": 1.0, "feature_std": 0.8, "skipped": 0.0, "data_wait_percent": 1.0}


def test_a_healthy_run_is_silent():
  alarms = Alarms(5.0)
  assert [alarms(step, GOOD) for step in range(0, 3 * PATIENCE, PATIENCE // 2)] == [[]] * 6


@pytest.mark.parametrize(("change", "words"), [
    ({"skipped": 3.0}, ("3 updates", "not finite", "clip_norm")),
    ({"data_wait_percent": 40.0}, ("40 %", "config.resident=yes")),
    ({"feature_std": 0.01}, ("features collapse", "0.0100")),
])
def test_a_warning_names_the_value_and_the_way_out_once(change, words):
  alarms = Alarms(None)
  (line,) = alarms(10, GOOD | change)
  assert line.startswith("warning: ") and all(word in line for word in words)
  assert alarms(20, GOOD | change) == []


def test_features_that_fall_on_a_point_raise_the_alarm_and_random_ones_do_not():
  random = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
  collapsed = 5 + 1e-3 * random
  alarms = Alarms(None)
  assert alarms(1, GOOD | {"feature_std": float(feature_std(jnp.asarray(random)))}) == []
  (line,) = alarms(2, GOOD | {"feature_std": float(feature_std(jnp.asarray(collapsed)))})
  assert "features collapse" in line


def test_a_loss_at_chance_is_told_only_when_it_stays_there():
  alarms = Alarms(5.0)
  at_chance = GOOD | {"loss": 5.001}
  assert alarms(1, at_chance) == [] and alarms(PATIENCE, at_chance) == []
  assert alarms(PATIENCE + 1, GOOD) == []  # it has learnt something: the count starts again
  assert alarms(PATIENCE + 2, at_chance) == [] and alarms(2 * PATIENCE, at_chance) == []
  (line,) = alarms(2 * PATIENCE + 2, at_chance)
  assert "chance (5.000)" in line and f"{PATIENCE} steps" in line
