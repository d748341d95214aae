"""A step in micro-batches is the step of the whole batch: to the last statistic, on any mesh."""

import jax
import numpy as np
import optax
import pytest
import test_step
import tiny
from test_step import BATCH, TOTAL, Bare, plain_views

from ssl_jax import describe, program
from ssl_jax.methods import METHODS
from ssl_jax.sharding import global_batch, replicated
from ssl_jax.step import (
  MicroBatches,
  cached_loss_and_gradients,
  init_state,
  loss_and_gradients,
)
from ssl_jax.types import Run

OPTIONS = {"moco_v2": {"queue": 40}, "byol": {"hidden": 16, "output": 8}}


def make(name, group_size=None):
  run = Run(Bare(group_size), plain_views, BATCH, TOTAL, norm=group_size or "global")
  return METHODS[name](run, **OPTIONS.get(name, {}))


def compute(function, *arguments):
  """Loss, gradients, new statistics, memory and metrics."""
  def wanted(state, batch):
    (loss, (_, *rest)), gradients = function(state, batch)
    return loss, rest, gradients
  return jax.jit(wanted, compiler_options=tiny.QUICK)(*arguments)


def whole(method):
  return lambda state, batch: loss_and_gradients(method, state, batch)


def cached(method, *micro):
  return lambda state, batch: cached_loss_and_gradients(method, MicroBatches(*micro), state, batch)


def state_of(method):
  return tiny.disturbed(test_step.begin(method, optax.sgd(0.1)))


def assert_same_but_for_rounding(got, want):
  *got, gradients = got
  *want, wanted = want
  jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6), got, want)
  assert tiny.largest(jax.tree.map(np.subtract, gradients, wanted)) < 1e-5 * tiny.largest(wanted)
  assert tiny.largest(wanted) > 1e-3


@pytest.mark.parametrize("name", ["simclr", "byol", "moco_v2"])
def test_with_grouped_batch_norm_nothing_changes(name):
  method = make(name, 4)
  state, batch = state_of(method), test_step.batch_of()
  want = compute(whole(method), state, batch)
  assert_same_but_for_rounding(compute(cached(method, 2, 4), state, batch), want)


def test_a_global_batch_norm_becomes_one_of_every_micro_batch():
  """Micro-batch m holds the images m, m + 4, ...: four of two views share their statistics."""
  together, grouped = make("simclr"), make("simclr", 8)
  state, batch = state_of(together), test_step.batch_of()
  order = np.arange(BATCH).reshape(4, 4).T.reshape(-1)
  want = compute(whole(grouped), state, jax.tree.map(lambda x: x[order], batch))
  got = compute(cached(together, 4), state, batch)
  assert_same_but_for_rounding(got, want)
  once = compute(whole(together), state, batch)
  assert abs(once[0] - got[0]) > 1e-4  # a BatchNorm over all images is another thing


def test_eight_devices_agree_with_one():
  method = make("moco_v2")
  found = []
  for devices in (1, 8):
    mesh = tiny.mesh_of(devices)
    state = jax.device_put(state_of(method), replicated(mesh))
    found.append(compute(cached(method, 2), state, global_batch(mesh, tiny.host_batch())))
  assert_same_but_for_rounding(found[1], found[0])


def test_a_run_holds_the_activations_of_a_micro_batch_and_says_so():
  mesh, shapes = tiny.mesh_of(1), program.batch_shapes(256, 28)
  temporaries, lines = [], []
  for count in (1, 16):
    parts = tiny.parts("simclr", batch_size=256, micro_batches=count)
    state = jax.eval_shape(lambda key, parts=parts: init_state(
        parts.method, parts.optimizer, shapes, key, parts.monitor), jax.random.key(0))
    compiled = program.make_step(parts, mesh).lower(state, shapes, {}).compile(
        compiler_options=tiny.QUICK)
    temporaries.append(compiled.memory_analysis().temp_size_in_bytes)
    lines.append("\n".join(describe.start(
        tiny.settings("simclr", batch_size=256, micro_batches=count), parts, mesh, tiny.images(),
        True, state)))
  assert temporaries[1] < temporaries[0] / 2
  assert "micro" not in lines[0] and "batch 256 in 16 micro-batches of 16 images" in lines[1]


@pytest.mark.parametrize(("flags", "words"), [
    (("--config.micro_batches=3",), ("config.micro_batches is 3", "16 images")),
    (("--config.micro_batches=2", "--config.model.norm_group=16"), ("norm_group", "16")),
    (("--config.micro_batches=4",), ("4 images", "8 devices")),
])
def test_a_batch_that_does_not_divide_is_refused(command, tmp_path, flags, words):
  status, _, errors = command(*tiny.flags(tmp_path / "run", "simclr", *flags))
  assert status == 2 and errors.count("\n") == 1
  assert all(word in errors for word in words), errors
