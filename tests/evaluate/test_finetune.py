"""Fine-tuning: the papers' grids, one step by hand, what is frozen, and who is chosen."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ssl_jax.evaluate.finetune import (
  PROTOCOLS,
  Candidate,
  choose,
  classification_loss,
  multi_label_loss,
  tuning,
)
from ssl_jax.models.norm import BatchNorm

IMAGES = np.random.default_rng(0).normal(size=(6, 2, 2, 3)).astype(np.float32)
TARGET = np.eye(3, dtype=bool)[[0, 1, 2, 0, 1, 2]]


class Backbone(nn.Module):
  """A dense layer and a BatchNorm, as quick to compile as a network can be."""

  @nn.compact
  def __call__(self, images, train):
    x = nn.Dense(5, name="dense")(images.reshape(len(images), -1))
    return {"features": BatchNorm(name="norm")(x, train)}


def made(protocol, metric="top1"):
  backbone = Backbone()
  variables = backbone.init(jax.random.key(1), IMAGES, train=False)
  init, step, logits = tuning(backbone, PROTOCOLS[protocol], num_classes=3, metric=metric)
  return variables, init(jax.random.key(0), variables, IMAGES), jax.jit(
      step, compiler_options=tiny.QUICK), logits


def test_the_grids_are_the_papers():
  first = [c for c in PROTOCOLS["ericsson"].candidates if c.augmented]
  assert len(first) == 20 and len(PROTOCOLS["ericsson"].candidates) == 40
  assert [c.learning_rate for c in first[::5]] == [0.1, 0.01, 0.001, 0.0001]
  np.testing.assert_allclose([c.weight_decay * c.learning_rate for c in first[:5]],
                             [0, 1e-6, 1e-5, 1e-4, 1e-3], rtol=1e-9)
  assert first[-1].weight_decay == pytest.approx(10)
  for name in ("islam_linear", "islam_full"):
    assert len(set(PROTOCOLS[name].candidates)) == 12


def test_the_schedules_end_where_the_papers_do():
  cosine = PROTOCOLS["ericsson"].curve(5000, 77)
  np.testing.assert_allclose([cosine(t) for t in (0, 2500, 4999)],
                             [1, 0.5, 0.5 * (1 + np.cos(np.pi * 4999 / 5000))], atol=1e-6)
  steps = PROTOCOLS["islam_full"].curve(50 * 7, 7)  # fifty epochs of seven steps
  np.testing.assert_allclose([steps(7 * e) for e in (0, 24, 25, 36, 37, 49)],
                             [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)


def test_two_steps_are_nesterovs_with_decay_on_everything():
  _, state, step, _ = made("ericsson")
  network = Backbone()
  rate, decay = 0.1, 0.02

  def loss(params, stats):
    outputs, updated = network.apply({"params": params["backbone"], "batch_stats": stats}, IMAGES,
                                     train=True, mutable=["batch_stats"])
    dense = params["logits"]["dense1"]
    log_prob = jax.nn.log_softmax(outputs["features"] @ dense["kernel"] + dense["bias"])
    return -(log_prob * TARGET).sum() / 6, updated["batch_stats"]

  params, stats = state.params, state.stats["backbone"]
  velocity = jax.tree.map(jnp.zeros_like, params)
  for _ in range(2):
    gradients, stats = jax.grad(loss, has_aux=True)(params, stats)
    gradients = jax.tree.map(lambda g, p: g + decay * p, gradients, params)
    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradients)
    params = jax.tree.map(lambda p, g, v: p - rate * (g + 0.9 * v), params, gradients, velocity)
    state, _ = step(rate, decay, state, IMAGES, TARGET)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.params, params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
               state.stats["backbone"], stats)


@pytest.mark.parametrize(("protocol", "whole"), [("islam_linear", False), ("islam_full", True)])
def test_what_is_frozen_does_not_move_and_the_head_learns(protocol, whole):
  variables, state, step, logits = made(protocol)
  affine = set(state.params["logits"].get("norm", {}))
  assert affine == ({"scale", "bias"} if whole else set())
  losses = []
  for _ in range(60):
    state, loss = step(0.1, 1e-5, state, IMAGES, TARGET)
    losses.append(float(loss))
  assert losses[-1] < 0.3 * losses[0]
  assert (np.asarray(logits(state, IMAGES)).argmax(1) == TARGET.argmax(1)).all()
  same = jax.tree.map(lambda a, b: bool((a == b).all()),
                      (state.params["backbone"], state.stats["backbone"]),
                      (variables["params"], variables["batch_stats"]))
  assert all(jax.tree.leaves(same)) != whole


def test_losses_are_the_formulas_and_images_without_a_class_do_not_count():
  logits = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
  target = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0], [1, 1, 0]], bool)
  log_prob = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  assert classification_loss(logits, target) == pytest.approx(
      -(log_prob[0, 0] + log_prob[1, 2]) / 2, rel=1e-5)
  p = 1 / (1 + np.exp(-logits))
  assert multi_label_loss(logits, target) == pytest.approx(
      -np.log(np.where(target, p, 1 - p)).mean(), rel=1e-5)


def test_the_first_of_the_best_is_chosen_and_what_diverged_never_wins():
  protocol = PROTOCOLS["ericsson"]._replace(candidates=tuple(
      Candidate(rate, 0.0, 4) for rate in (4.0, 3.0, 2.0, 1.0)))
  wrong = np.roll(TARGET, 1, 1)
  answers = {4.0: np.full((6, 3), np.nan), 3.0: wrong, 2.0: TARGET, 1.0: TARGET}
  told = []
  chosen, trials = choose(protocol, lambda c: (answers[c.learning_rate].astype(float), TARGET),
                          "top1", told.append)
  assert chosen.learning_rate == 2.0 and told == trials
  np.testing.assert_array_equal([t.score for t in trials], [np.nan, 0, 100, 100])
  alone = protocol._replace(candidates=protocol.candidates[:1])
  assert choose(alone, None, "top1") == (alone.candidates[0], [])
