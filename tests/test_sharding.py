"""Divided parameters and memories: where they lie, and that training does not notice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_step
import tiny
from collectives import collectives

from ssl_jax import describe, program, sharding
from ssl_jax.errors import UserError
from ssl_jax.models import make_backbone
from ssl_jax.plan.program import held
from ssl_jax.sharding import global_batch, make_mesh, of_state

QUEUE = 160  # longer than an embedding is wide


def parts():
  method = test_step.make("moco_v2", queue=QUEUE)
  return tiny.parts("moco_v2")._replace(method=method)


@pytest.fixture
def all_divided(monkeypatch):
  monkeypatch.setattr(sharding, "LEAST_SHARDED", 0)


@functools.cache
def trained(fsdp: int, devices: int):
  """The losses and the state, on the host, after two steps; and the compiled step."""
  made, mesh = parts(), make_mesh(jax.devices()[:devices], fsdp)
  state = tiny.disturbed(tiny.first_state(made, mesh))
  step = program.make_step(made, mesh).lower(
      state, global_batch(mesh, tiny.host_batch()), {}).compile(compiler_options=tiny.QUICK)
  losses = []
  for i in range(2):
    state, metrics = step(state, global_batch(mesh, tiny.host_batch(i)), {})
    losses.append(float(metrics["loss"]))
  return losses, state, step


@pytest.mark.parametrize("fsdp", [2, 4])
def test_divided_parameters_and_queue_train_as_whole_ones(all_divided, fsdp):
  losses, state, step = trained(fsdp, devices=8)
  want, whole, _ = trained(1, devices=1)
  np.testing.assert_allclose(losses, want, rtol=1e-5)
  for tree in ("params", "target_params", "opt_state", "memory", "stats"):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
                 getattr(state, tree), getattr(whole, tree))
  kernel = state.params["backbone"]["Dense_0"]["kernel"]
  assert {s.data.size for s in kernel.addressable_shards} == {kernel.size // fsdp}
  queue = state.memory["queue"]
  assert {s.data.shape for s in queue.addressable_shards} == {(QUEUE // 8, queue.shape[1])}
  # Parameters are gathered where they are used; the queue never is.
  gathered = [c.elements for c in collectives(step) if c.kind == "all-gather"]
  assert kernel.size in gathered and queue.size not in gathered


def test_what_is_small_or_does_not_divide_stays_whole():
  mesh = make_mesh(jax.devices()[:8], 4)
  shapes = program.batch_shapes(16, 28)
  made = tiny.parts("simclr")
  state = jax.eval_shape(lambda key: program.init_state(
      made.method, made.optimizer, shapes, key, made.monitor), jax.random.key(0))
  state = state._replace(
      params={"wide": jnp.zeros((3, 3, 64, 128)), "odd": jnp.zeros((257, 257)),
              "small": jnp.zeros((64, 64))}, memory=jnp.zeros((1024, 64)))
  placed = of_state(mesh, state)
  specs = {name: tuple(s.spec) for name, s in placed.params.items()}
  assert specs == {"wide": (None, None, None, "fsdp"), "odd": (), "small": ()}
  assert tuple(placed.memory.spec) == (("data", "fsdp"),)
  assert tuple(of_state(make_mesh(), state).params["wide"].spec) == ()
  on_device = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
                           state.params, placed.params)
  assert held(on_device) == 4 * (9 * 64 * 128 // 4 + 257**2 + 64**2)


def test_devices_that_do_not_divide_are_refused():
  with pytest.raises(UserError, match=r"mesh.fsdp is 3, .* 8 devices; use 1"):
    make_mesh(fsdp=3)


def test_blocks_computed_again_give_the_same_gradient_and_keep_only_their_inputs():
  images = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))
  gradients, kept = [], []
  for remat in (False, True):
    module = make_backbone("resnet8", stem="small", remat=remat)
    variables = jax.jit(lambda module=module: module.init(
        jax.random.key(1), images[:2], train=False), compiler_options=tiny.QUICK)()

    def loss(params, module=module, variables=variables):
      outputs, updated = module.apply(
          variables | {"params": params}, images, train=True, mutable=["batch_stats"])
      return jnp.sin(outputs["features"]).sum(), updated

    gradients.append(jax.jit(jax.grad(loss, has_aux=True), compiler_options=tiny.QUICK)(
        variables["params"]))
    # What the forward pass leaves for the backward pass; a CPU's compiler schedules by its own.
    left = jax.eval_shape(lambda p: jax.vjp(loss, p, has_aux=True)[1], variables["params"])
    kept.append(describe.size(left) - describe.size(variables["params"]))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *gradients)
  assert kept[1] < kept[0] / 2
