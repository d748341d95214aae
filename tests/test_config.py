"""What a config may hold, and what the command line changes in it."""

import pytest
import tiny
from ml_collections import ConfigDict

from ssl_jax import config
from ssl_jax.errors import UserError
from ssl_jax.schedules import UNITS, steps


def raw(**changes) -> ConfigDict:
  from configs import quickstart
  made = quickstart.get_config()
  made.update(changes)
  return made


def test_the_command_lines_duration_replaces_the_same_one_in_another_unit():
  made = raw()
  assert made.total_epochs and made.total_steps is None
  made.total_steps = 70
  made.schedule.warmup_steps = 3
  resolved = config.resolve(made, ["total_steps", "schedule.warmup_steps"])
  assert steps("total", resolved, batch_size=10) == 70
  assert steps("warmup", resolved["schedule"], batch_size=10) == 3
  assert [resolved[f"checkpoint_every_{unit}"] for unit in UNITS] == [None, None, None, 10.0]


def test_two_durations_on_the_command_line_are_a_mistake():
  made = raw(total_steps=70, total_epochs=2.0)
  resolved = config.resolve(made, ["total_steps", "total_epochs"])
  with pytest.raises(UserError, match=r"total_steps=70 and total_epochs=2\.0"):
    steps("total", resolved, batch_size=10, num_examples=100)


def test_a_config_that_comes_from_a_file_is_checked_as_one_from_flags():
  for change, words in (
      ({"batch_size": "many"}, "config.batch_size is 'many', must be of type int"),
      ({"batch_size": True}, "must be of type int"), ({"seed": 1.5}, "config.seed is 1.5"),
      ({"speed": 3}, "config.speed is not a field of this task; did you mean 'seed'"),
      ({"task": "pretain"}, "config.task is 'pretain'; did you mean 'pretrain'"),
      ({"optimizer": 3}, "config.optimizer is 3, must be a group of fields")):
    with pytest.raises(UserError) as error:
      config.resolve(ConfigDict(raw().to_dict() | change))
    assert words in str(error.value)


def test_an_option_in_place_of_a_number_is_named():
  made = raw().to_dict()
  made["method"]["temperature"] = "hot"
  with pytest.raises(UserError, match=r"config.method.temperature is 'hot', must be a number"):
    config.resolve(ConfigDict(made))


def test_a_missing_field_is_named():
  made = raw().to_dict()
  del made["schedule"]["base_lr"]
  with pytest.raises(UserError, match=r"config.schedule.base_lr is missing"):
    config.resolve(ConfigDict(made))


def test_the_hash_depends_on_values_and_not_on_their_order():
  made = tiny.settings("simclr")
  assert config.config_hash(made) == config.config_hash(dict(reversed(made.items())))
  assert config.config_hash(made) != config.config_hash(made | {"seed": 1})


def test_a_resumed_run_may_change_how_it_is_watched_but_not_what_is_trained():
  made = tiny.settings("simclr")
  config.check_resumable(made, made | {"log_every_steps": 3, "keep": 7, "resident": "no"}, "w")
  for change in ({"seed": 5}, {"batch_size": 8}, {"total_steps": 9}):
    (name, value), = change.items()
    with pytest.raises(UserError, match=rf"w was started with config.{name}=.*now it is {value}"):
      config.check_resumable(made, made | change, "w")


def test_what_a_later_version_added_is_no_difference_but_an_option_that_was_not_set_is():
  made = tiny.settings("simclr")
  older = {name: value for name, value in made.items() if name != "canvas"}
  older["evaluate"] = {k: v for k, v in made["evaluate"].items() if k != "few_draws"}
  assert config.difference(older, made) is None
  assert config.difference(made, older) == "canvas"
  assert config.difference(made, made | {"views": made["views"] | {"blur": 0.0}}) == "views"
  evaluate = made["evaluate"] | {"knn_k": 7}
  assert config.difference(made, made | {"evaluate": evaluate}) == "evaluate.knn_k"
