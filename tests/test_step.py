"""The laws of a step, on a network of one BatchNorm and one matrix, and views without chance."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from collectives import collectives
from tiny import Bare

from ssl_jax import program
from ssl_jax.evaluate.online import watch
from ssl_jax.methods import METHODS
from ssl_jax.sharding import over_batch, replicate
from ssl_jax.step import NO_MONITOR, init_state, loss_and_gradients, train_step
from ssl_jax.types import Run

BATCH, TOTAL = 16, 10


def plain_views(key, batch):
  """Two views without a draw. A negative first index makes them NaN."""
  del key
  a = batch["image"][:, 8:14, 8:14].astype(jnp.float32) / 255
  a = jnp.where(batch["index"][0] < 0, jnp.nan, a)
  return {"a": a, "b": 1 - a[:, :, ::-1] ** 2}


def make(name, group_size=None, **options):
  run = Run(Bare(group_size), plain_views, BATCH, TOTAL, num_classes=10)
  return METHODS[name](run, **options)


def batch_of(step=0):
  return jax.tree.map(jnp.asarray, tiny.host_batch(step, BATCH))


def begin(method, optimizer, monitor=NO_MONITOR):
  shapes = program.batch_shapes(BATCH, 28)
  return jax.jit(lambda key: init_state(method, optimizer, shapes, key, monitor),
                 compiler_options=tiny.QUICK)(
      jax.random.key(0))


def steps(name, count, monitor=NO_MONITOR, **options):
  """The host copies of the states before, between and after some donated steps."""
  method, optimizer = make(name, **options), optax.sgd(0.1, 0.9)
  state = begin(method, optimizer, monitor)
  step = jax.jit(train_step(method, optimizer, monitor), donate_argnums=0)
  states = [host(state)]
  for i in range(count):
    state, _ = step(state, batch_of(i))
    states.append(host(state))
  return states


def host(state):
  state = state._replace(key=jax.random.key_data(state.key))
  return jax.tree.map(lambda x: np.array(x, copy=True), state)


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", ["byol", "moco_v2"])
def test_a_step_that_is_not_finite_changes_only_the_step_and_the_count(name):
  method, optimizer = make(name, **tiny.OPTIONS[name]), optax.sgd(0.1, 0.9)
  monitor = watch(method.online[0][0], 10)
  step = jax.jit(train_step(method, optimizer, monitor))
  before, _ = step(begin(method, optimizer, monitor), batch_of())
  bad = batch_of(1) | {"index": jnp.full(BATCH, -1)}
  after, metrics = step(before, bad)
  assert not np.isfinite(metrics["loss"])
  assert (int(after.step), int(after.skipped), int(metrics["skipped"])) == (2, 1, 1)
  assert_same(host(after._replace(step=before.step, skipped=before.skipped)), host(before))
  again, metrics = step(after, batch_of(1))
  assert np.isfinite(metrics["loss"]) and int(again.skipped) == 1
  assert np.abs(host(again).params["backbone"]["Dense_0"]["kernel"]
                - host(after).params["backbone"]["Dense_0"]["kernel"]).max() > 0


def test_the_target_follows_the_new_parameters():
  old, new = steps("moco_v2", 1, decay=0.9, queue=40)
  assert np.abs(new.params["backbone"]["Dense_0"]["kernel"]
                - old.params["backbone"]["Dense_0"]["kernel"]).max() > 1e-6
  jax.tree.map(lambda target, before, now: np.testing.assert_allclose(
      target, 0.9 * before + 0.1 * now, rtol=1e-6, atol=1e-8),
      new.target_params, old.target_params, new.params)


def test_the_target_starts_as_the_online_network_in_buffers_of_its_own():
  method, optimizer = make("byol", hidden=16, output=8), optax.sgd(0.1, 0.9)
  state = begin(method, optimizer)
  assert_same(state.target_params, state.params)
  assert_same(state.target_stats, state.stats)
  leaves = jax.tree.leaves(state)
  pointers = {x.unsafe_buffer_pointer() for x in leaves if not jnp.issubdtype(
      x.dtype, jax.dtypes.prng_key)}
  assert len(pointers) == len(leaves) - 1  # all but the key
  step = jax.jit(train_step(method, optimizer), donate_argnums=0)
  jax.block_until_ready(step(state, batch_of()))
  assert all(x.is_deleted() for x in jax.tree.leaves(state.params))


def embed(method, params, stats, images):
  return method.network.apply({"params": params, "batch_stats": stats}, images, train=True,
                              mutable=["batch_stats"])[0]["projection"]


def unit(x):
  x = np.asarray(x, np.float64)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_queue_holds_the_keys_in_the_order_of_the_images_and_wraps_around():
  size = 40
  states = steps("moco_v2", 4, decay=0.9, queue=size)
  method, ring = make("moco_v2", decay=0.9, queue=size), states[0].memory["queue"].copy()
  for i, (state, after) in enumerate(itertools.pairwise(states)):
    # Without shuffling: global BatchNorm does not see the order.
    keys = unit(embed(method, state.target_params, state.target_stats,
                      plain_views(None, batch_of(i))["b"]))
    for row in range(BATCH):
      ring[(i * BATCH + row) % size] = keys[row]
    np.testing.assert_allclose(after.memory["queue"], ring, atol=1e-5)
    assert after.memory["pointer"] == (i + 1) * BATCH % size
  first = states[0].memory["queue"]
  remaining = [np.sum(np.all(s.memory["queue"] == first, axis=1)) for s in states]
  assert remaining == [40, 24, 8, 0, 0]


def info_nce(method, state, batch, temperature):
  """MoCo's loss without shuffling, in f64."""
  views = plain_views(None, batch)
  q = unit(embed(method, state.params, state.stats, views["a"]))
  k = unit(embed(method, state.target_params, state.target_stats, views["b"]))
  logits = np.concatenate([np.sum(q * k, 1)[:, None], q @ state.memory["queue"].T], 1) / temperature
  return np.mean(np.log(np.exp(logits).sum(1)) - logits[:, 0])


@pytest.mark.parametrize("group_size", [None, 4])
def test_shuffling_is_undone_and_matters_only_to_grouped_batch_norm(group_size):
  method = make("moco_v2", group_size, queue=40)
  state = begin(method, optax.sgd(0.1))
  (loss, _), _ = jax.jit(lambda s, b: loss_and_gradients(method, s, b))(state, batch_of())
  plain = info_nce(method, host(state), batch_of(), 0.2)
  if group_size is None:
    np.testing.assert_allclose(loss, plain, rtol=1e-5)
  else:
    assert abs(loss - plain) > 1e-3


@pytest.mark.parametrize("name", ["byol", "moco_v2"])
def test_no_gradient_reaches_the_target(name):
  method = make(name, **tiny.OPTIONS[name])
  state = tiny.disturbed(begin(method, optax.sgd(0.1)))

  def loss(params, target):
    return loss_and_gradients(
        method, state._replace(params=params, target_params=target), batch_of())[0][0]
  online, target = jax.jit(jax.grad(loss, argnums=(0, 1)))(state.params, state.target_params)
  assert tiny.largest(target) == 0
  assert tiny.largest(online) > 1e-3


def test_batch_norm_sees_the_views_of_simclr_together_and_those_of_byol_apart():
  a, b = (np.asarray(v, np.float64) for v in plain_views(None, batch_of()).values())
  _, together = steps("simclr", 1)
  _, apart = steps("byol", 1, hidden=16, output=8)
  both = np.concatenate([a, b])
  axes = (0, 1, 2)
  np.testing.assert_allclose(together.stats["backbone"]["norm"]["mean"], 0.1 * both.mean(axes),
                             rtol=1e-5)
  np.testing.assert_allclose(together.stats["backbone"]["norm"]["var"],
                             0.9 + 0.1 * both.var(axes), rtol=1e-5)
  for stats in (apart.stats, apart.target_stats):
    np.testing.assert_allclose(stats["backbone"]["norm"]["mean"],
                               0.09 * a.mean(axes) + 0.1 * b.mean(axes), rtol=1e-5)
    np.testing.assert_allclose(stats["backbone"]["norm"]["var"],
                               0.81 + 0.09 * a.var(axes) + 0.1 * b.var(axes), rtol=1e-5)


@pytest.mark.parametrize("name", ["simclr", "supervised"])
def test_watching_does_not_change_what_is_trained(name):
  alone, watched = steps(name, 3), steps(name, 3, watch("a", 10))
  assert_same(watched[-1]._replace(monitor=()), alone[-1])
  head, _ = watched[-1].monitor
  assert np.abs(head["kernel"]).max() > 0


def test_the_decay_goes_from_the_papers_rate_to_one():
  byol, moco = make("byol"), make("moco_v1")
  np.testing.assert_allclose([byol.decay(0), byol.decay(TOTAL // 2), byol.decay(TOTAL)],
                             [0.996, 0.998, 1.0], rtol=1e-6)
  assert [moco.decay(0), moco.decay(TOTAL)] == [0.999, 0.999]


@pytest.mark.parametrize("resident", [True, False])
def test_no_image_moves_between_devices(resident):
  mesh, parts = tiny.mesh_of(8), tiny.parts("simclr")
  state = jax.eval_shape(lambda key: init_state(
      parts.method, parts.optimizer, program.batch_shapes(16, 28), key, parts.monitor),
      jax.random.key(0))
  store = replicate(mesh, tiny.stored()) if resident else {}
  batch = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=over_batch(mesh))
           for name, x in program.batch_shapes(16, 28).items()
           if name == "index" or not resident}
  compiled = program.make_step(parts, mesh).lower(state, batch, store).compile(
      compiler_options=tiny.QUICK)
  found = collectives(compiled)
  assert {c.kind for c in found} <= {"all-gather", "all-reduce"}
  images = [c for c in found if c.kind == "all-gather" and c.elements >= 16 * 16 * 16 * 3]
  assert found and not images
