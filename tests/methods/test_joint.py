"""The objectives with labels and keys: what enters the queue when, and what their losses add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ssl_jax import losses
from ssl_jax.methods import METHODS
from ssl_jax.methods.keys import SHUFFLE
from ssl_jax.ops import l2_normalize, shuffle
from ssl_jax.types import Outputs, Run

B, D, K, TAU = 4, 5, 10, 0.07
LABELS = np.array([0, 1, 0, 2])
STEP = jax.random.key(3)


def make(name, **options):
  run = Run(tiny.Bare(), tiny.noisy("ab"), B, 100, num_classes=3)
  return METHODS[name](run, queue=K, output=D, **options)


def draw(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def shuffled(x):
  """As the target network gives it: in the order of the key batch."""
  return x[shuffle(jax.random.fold_in(STEP, SHUFFLE), B)[0]]


QUERY = {"projection": draw(0, B, D), "labelled": draw(1, B, D), "logits": draw(2, B, 3)}
KEY = {"projection": draw(3, B, D), "labelled": draw(4, B, D)}
OUTPUTS = Outputs({"a": QUERY}, {"b": {head: shuffled(x) for head, x in KEY.items()}},
                  {"index": np.arange(B), "label": jnp.asarray(LABELS)}, STEP, 0)


def begin(method):
  """The memory before the first step, and the one half-way through a ring of labels."""
  memory = method.init_memory(jax.random.key(5), OUTPUTS)
  if "label" in memory:
    np.testing.assert_array_equal(memory["label"], -1)
    memory["label"] = jnp.array([0, 2, 1, -1, 1, -1, 2, 0, -1, 1])
  return memory | {"pointer": jnp.int32(8)}


def step(method, memory):
  return jax.jit(method.loss, compiler_options=tiny.QUICK)(OUTPUTS, memory)


def pushed(ring, rows):
  """Rows written from place 8 on of a ring of 10: 8, 9, 0, 1."""
  return np.concatenate([rows[2:], ring[2:8], rows[:2]])


def unit(x):
  return np.asarray(l2_normalize(x))


def test_selfsupcon_compares_before_it_stores():
  method, key = make("selfsupcon"), unit(KEY["projection"])
  memory = begin(method)
  value, after, _ = step(method, memory)
  np.testing.assert_allclose(
      value, losses.info_nce(QUERY["projection"], key, memory["queue"], TAU), rtol=1e-5)
  np.testing.assert_allclose(after["queue"], pushed(memory["queue"], key), rtol=1e-6)
  assert after["pointer"] == 2


def test_supcon_stores_before_it_compares():
  method, key = make("supcon_queue"), unit(KEY["projection"])
  memory = begin(method)
  value, after, _ = step(method, memory)
  queue, label = pushed(memory["queue"], key), pushed(memory["label"], LABELS)
  np.testing.assert_allclose(after["queue"], queue, rtol=1e-6)
  np.testing.assert_array_equal(after["label"], label)
  np.testing.assert_allclose(value, losses.supervised_contrastive_queue(
      QUERY["projection"], LABELS, queue, label, TAU), rtol=1e-5)


@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_cross_entropy_is_joined_by_selfsupcon(weight):
  method, key = make("ce_selfsupcon", selfsupcon_weight=weight), unit(KEY["projection"])
  memory = begin(method)
  value, after, metrics = step(method, memory)
  want = losses.cross_entropy(QUERY["logits"], LABELS) + weight * losses.info_nce(
      QUERY["projection"], key, memory["queue"], TAU)
  np.testing.assert_allclose(value, want, rtol=1e-5)
  np.testing.assert_allclose(after["queue"], pushed(memory["queue"], key), rtol=1e-6)
  np.testing.assert_allclose(metrics["accuracy"], losses.accuracy(QUERY["logits"], LABELS))
  assert {name for name, *_ in method.network.heads} == {"projection", "logits"}


def test_supcon_joins_selfsupcon_with_a_projector_of_its_own():
  method = make("supcon_selfsupcon")
  memory, keys = begin(method), [unit(KEY[head]) for head in ("projection", "labelled")]
  np.testing.assert_allclose(np.linalg.norm(memory["queue"], axis=1), 1, rtol=1e-6)
  value, after, _ = step(method, memory)
  queue = pushed(memory["queue"], np.concatenate(keys, axis=1))
  label = pushed(memory["label"], LABELS)
  want = losses.supervised_contrastive_queue(
      QUERY["labelled"], LABELS, queue[:, D:], label, TAU) + 0.5 * losses.info_nce(
      QUERY["projection"], keys[0], memory["queue"][:, :D], TAU)
  np.testing.assert_allclose(value, want, rtol=1e-5)
  np.testing.assert_allclose(after["queue"], queue, rtol=1e-6)
  np.testing.assert_array_equal(after["label"], label)


def test_the_queue_forgets_how_it_started():
  method = make("supcon_queue")
  memory = method.init_memory(jax.random.key(5), OUTPUTS)
  start = np.asarray(memory["queue"])
  for _ in range(-(-K // B)):
    _, memory, _ = step(method, memory)
  assert (np.asarray(memory["label"]) >= 0).all()
  assert (np.abs(memory["queue"] - start).max(axis=1) > 1e-3).all()
