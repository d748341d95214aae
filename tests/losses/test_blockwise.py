"""The losses in blocks are the dense ones: value, gradient, laws of memory, and a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from collectives import collectives
from jax.sharding import NamedSharding, PartitionSpec

from ssl_jax import describe, losses
from ssl_jax.losses import blockwise, contrastive
from ssl_jax.types import Outputs, TrainState

B, D, K, BLOCK = 48, 16, 90, 24  # four whole blocks of 2B embeddings, four uneven ones of the queue


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(blockwise, "BLOCK", BLOCK)


def embeddings(seed=0, count=B):
  # Near pairs and far ones, so that small and large losses occur.
  a, noise = jax.random.normal(jax.random.key(seed), (2, count, D))
  return 3 * a, a + jnp.linspace(0.01, 2, count)[:, None] * noise


def queue(count=K):
  rows = jax.random.normal(jax.random.key(9), (count, D))
  return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)


def labels(count=B):
  return jnp.arange(count) % 7 - 2  # a negative one is no class


def cases(form):
  def labelled(loss):
    return lambda a, b, t: loss(jnp.stack([a, b], 1), labels(len(a)), t, 0.07)
  return {
    "nt_xent": lambda a, b, t: form.nt_xent(a, b, t) + form.nt_xent_mean(b, a, 2 * t),
    "info_nce": lambda a, b, t: form.info_nce(a, b, queue(), t),
    "batch_info_nce": form.batch_info_nce,
    "queue": lambda a, b, t: form.supervised_contrastive_queue(
        a, labels(), queue(), labels(K), t),
    "out": labelled(form.supervised_contrastive),
    "in": labelled(form.supervised_contrastive_in),
  }


BLOCKED, DENSE = cases(blockwise), cases(contrastive)


@pytest.mark.parametrize("name", BLOCKED)
def test_value_and_gradient_are_the_dense_ones(name):
  blocked, dense = (jax.jit(jax.value_and_grad(form[name], (0, 1, 2)), compiler_options=tiny.QUICK)
                    for form in (BLOCKED, DENSE))
  for temperature in (0.05, 0.5):
    want, wants = dense(*embeddings(), temperature)
    got, gots = blocked(*embeddings(), temperature)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for g, w in zip(gots, wants):
      np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5 * np.abs(w).max())
    assert tiny.largest(gots[0]) > 1e-4


def test_accuracies_are_the_dense_ones():
  a, b = embeddings()
  def accuracies(form):
    return jax.jit(lambda a, b: jnp.stack([
        form.nt_xent_accuracy(a, b), form.info_nce_accuracy(a, b, queue()),
        form.batch_info_nce_accuracy(a, b)]), compiler_options=tiny.QUICK)(a, b)
  dense, blocked = accuracies(contrastive), accuracies(blockwise)
  np.testing.assert_allclose(blocked, dense, rtol=1e-6)
  assert (dense > 0).all() and (dense < 100).all()
  corners = jnp.eye(4)
  assert blockwise.info_nce_accuracy(corners, corners, corners[:1]) == 75  # a tie is a miss


def test_an_anchor_alone_costs_nothing():
  def alone(a):
    z, none = a[:, None], jnp.arange(len(a))
    return jnp.stack([blockwise.nt_xent(a[:1], 2 * a[:1] + 1, .1),
                      blockwise.supervised_contrastive(z, none, .1, .07),
                      blockwise.supervised_contrastive_in(z, none, .1, .07)])
  a = embeddings(count=3)[0]
  value, gradient = jax.jit(lambda a: (alone(a), jax.jacrev(alone)(a)),
                            compiler_options=tiny.QUICK)(a)
  np.testing.assert_array_equal(value, 0)
  np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", ["nt_xent", "info_nce", "out"])
def test_eight_devices_agree_with_one_and_gather_only_blocks_of_embeddings(name):
  split = NamedSharding(tiny.mesh_of(8), PartitionSpec("data"))
  function = jax.jit(jax.value_and_grad(lambda a, b: BLOCKED[name](a, b, .2), (0, 1)),
                     compiler_options=tiny.QUICK)
  value, gradients = function(*embeddings())
  compiled = function.lower(*jax.device_put(embeddings(), split)).compile()
  got, moved = compiled(*jax.device_put(embeddings(), split))
  np.testing.assert_allclose(got, value, rtol=1e-6)
  for g, w in zip(moved, gradients):
    np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-7)
  for c in collectives(compiled):
    assert c.kind in ("all-gather", "all-reduce") and c.elements <= BLOCK * D, c


def test_memory_grows_with_the_batch_and_not_with_its_square():
  def temporaries(count):
    def loss(a, b, labels):
      one = blockwise.nt_xent(a, b, .2) + blockwise.info_nce(a, b, b, .2)
      other = blockwise.supervised_contrastive_in(jnp.stack([a, b], 1), labels, .2, .07)
      return one + other, (blockwise.nt_xent_accuracy(a, b), blockwise.info_nce_accuracy(a, b, b))
    rows = jax.ShapeDtypeStruct((count, D), jnp.float32)
    return jax.jit(jax.grad(loss, has_aux=True), compiler_options=tiny.QUICK).lower(
        rows, rows, jax.ShapeDtypeStruct((count,), jnp.int32)
    ).compile().memory_analysis().temp_size_in_bytes
  small, large = temporaries(512), temporaries(2048)
  assert large < 4.5 * small  # it would be 16 times as much
  assert large < 4 * 2048 * 2048  # the smallest matrix of the three


def test_the_form_follows_the_size_of_the_matrix():
  assert losses.form(8192, 8192) is contrastive  # SimCLR at batch 4096: 256 MiB
  assert losses.form(256, 65536) is contrastive  # MoCo
  assert losses.form(65536, 65536) is blockwise  # 16 GiB
  assert losses.form(65536, 4096) is contrastive  # 1 GiB, and one candidate more:
  assert losses.form(65536, 4097) is blockwise


@pytest.mark.parametrize("name", ["simclr", "moco_v2", "moco_v3", "supcon", "supcon_queue",
                                  "supcon_selfsupcon"])
def test_a_method_takes_blocks_for_a_large_matrix_and_says_so(name, monkeypatch):
  def value(method):
    a, b = (x.at[:16].get() for x in embeddings())
    views = {view: dict.fromkeys(("projection", "prediction", "labelled"), x)
             for view, x in (("a", a), ("b", b))}
    batch = {"label": labels(16), "index": jnp.arange(16)}
    outputs = Outputs(views, views, batch, jax.random.key(3), jnp.int32(0))
    memory = method.init_memory(jax.random.key(4), outputs)
    return jax.jit(lambda memory: method.loss(outputs, memory)[::2],
                   compiler_options=tiny.QUICK)(memory)

  dense = tiny.parts(name)
  monkeypatch.setattr(losses, "LARGEST_MATRIX", 0)
  blocked = tiny.parts(name)
  jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-5),
               value(blocked.method), value(dense.method))
  assert "in blocks" not in told(dense) and "per anchor in blocks" in told(blocked)


def told(parts) -> str:
  """The lines at the start; what a state holds plays no part."""
  state = TrainState(*[{"backbone": {}} if name == "params" else () for name in TrainState._fields])
  return "\n".join(describe.start(tiny.settings(parts.meta["method"]), parts, tiny.mesh_of(8),
                                  tiny.images(), True, state))
