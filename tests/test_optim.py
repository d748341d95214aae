"""Optimizers against their update rules written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssl_jax import optim, schedules
from ssl_jax.errors import UserError


def run(optimizer, params, gradients):
  """Applies the gradients one after the other; returns all params on the way and the state."""
  state, path = optimizer.init(params), []
  update = jax.jit(optimizer.update)
  for g in gradients:
    updates, state = update(g, state, params)
    params = optax.apply_updates(params, updates)
    path.append(params)
  return path, state


def draw(seed, steps=4):
  """A network's worth of parameters and some gradients."""
  shapes = {"conv": {"kernel": (3, 4)}, "head": {"kernel": (4, 2), "bias": (2,)},
            "BatchNorm_0": {"scale": (4,), "bias": (4,)}}
  def tree(key):
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(treedef, [jax.random.normal(k, s) for k, s in zip(keys, leaves)])
  first, *rest = [tree(k) for k in jax.random.split(jax.random.key(seed), steps + 1)]
  return first, rest


RATES = [0.5, 0.3, 0.1, 0.7]


def rate(step):
  return jnp.array(RATES)[step]


def naive(params, gradients, rule):
  """Runs `rule(w, g, state, lr, kernel) -> (w, state)` leaf by leaf in f64."""
  flat, treedef = jax.tree_util.tree_flatten_with_path(params)
  out = []
  for number, (path, w) in enumerate(flat):
    w, state = np.asarray(w, np.float64), None
    for lr, g in zip(RATES, gradients):
      g = np.asarray(jax.tree.leaves(g)[number], np.float64)
      w, state = rule(w, g, state, lr, path[-1].key == "kernel")
    out.append(w)
  return jax.tree.unflatten(treedef, out)


def close(got, want):
  jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=2e-5, atol=1e-6), got, want)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs_with_decay_on_everything(nesterov):
  def rule(w, g, v, lr, kernel):
    g = g + .01 * w
    v = g if v is None else .9 * v + g
    return w - lr * (g + .9 * v if nesterov else v), v
  params, gradients = draw(0)
  optimizer = optim.make_optimizer("sgd", rate, weight_decay=.01, momentum=.9, nesterov=nesterov)
  close(run(optimizer, params, gradients)[0][-1], naive(params, gradients, rule))


def adapted(w, g, kernel):
  if not kernel:
    return g
  g = g + .01 * w
  return g * 1e-3 * np.linalg.norm(w) / np.linalg.norm(g)


def test_lars_of_byol_has_the_rate_after_the_momentum():
  def rule(w, g, m, lr, kernel):
    m = (0 if m is None else .9 * m) + adapted(w, g, kernel)
    return w - lr * m, m
  params, gradients = draw(1)
  optimizer = optim.make_optimizer("lars_byol", rate, weight_decay=.01)
  close(run(optimizer, params, gradients)[0][-1], naive(params, gradients, rule))


def test_lars_of_simclr_has_the_rate_inside_the_momentum():
  def rule(w, g, m, lr, kernel):
    m = (0 if m is None else .9 * m) + lr * adapted(w, g, kernel)
    return w - m, m
  params, gradients = draw(1)
  optimizer = optim.make_optimizer("lars_simclr", rate, weight_decay=.01)
  close(run(optimizer, params, gradients)[0][-1], naive(params, gradients, rule))


def test_both_placements_agree_while_the_rate_is_constant_and_only_then():
  params, gradients = draw(2)
  paths = {}
  for name in ("lars_byol", "lars_simclr"):
    for label, schedule in (("constant", schedules.constant(.2)), ("changing", rate)):
      paths[name, label] = run(optim.make_optimizer(name, schedule), params, gradients)[0][-1]
  close(paths["lars_byol", "constant"], paths["lars_simclr", "constant"])
  a, b = (paths[n, "changing"]["conv"]["kernel"] for n in ("lars_byol", "lars_simclr"))
  assert np.abs(a - b).max() > 1e-6


@pytest.mark.parametrize("name", ["lars_byol", "lars_simclr"])
def test_golden_lars(name):
  params = {"kernel": jnp.array([[3., 4.]]), "bias": jnp.array([3., 4.])}
  gradients = {"kernel": jnp.array([[.6, .8]]), "bias": jnp.array([.6, .8])}
  optimizer = optim.make_optimizer(name, schedules.constant(3.2), weight_decay=1.5e-6)
  (after,), _ = run(optimizer, params, [gradients])
  np.testing.assert_allclose(after["kernel"], [[2.9904, 3.9872]], rtol=1e-6)
  np.testing.assert_allclose(after["bias"], [1.08, 1.44], rtol=1e-6)


def test_lars_moves_parameters_and_gradients_of_norm_zero():
  params = {"kernel": jnp.zeros((2, 2)), "other": jnp.ones((2, 2))}
  gradients = {"kernel": jnp.ones((2, 2)), "other": jnp.zeros((2, 2))}
  (after,), _ = run(optim.make_optimizer("lars_byol", schedules.constant(.1)), params, [gradients])
  np.testing.assert_allclose(after["kernel"], -.1, rtol=1e-6)
  np.testing.assert_array_equal(after["other"], 1)


def test_adamw_is_torchs():
  def rule(w, g, state, lr, kernel):
    t, m, v = state or (0, 0, 0)
    t, m, v = t + 1, .9 * m + .1 * g, .999 * v + .001 * g * g
    w = w - lr * .01 * w
    return w - lr * (m / (1 - .9**t)) / (np.sqrt(v / (1 - .999**t)) + 1e-8), (t, m, v)
  params, gradients = draw(3)
  # In f32 the bias correction 1 - .999 has few digits: hence the tolerance.
  jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-4, atol=2e-5),
               run(optim.make_optimizer("adamw", rate), params, gradients)[0][-1],
               naive(params, gradients, rule))


def test_weights_are_kernels_and_neither_biases_nor_norms():
  params = {"Dense_0": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
            "BatchNorm_0": {"scale": jnp.ones((1, 2)), "bias": jnp.ones((1, 2))},
            "GroupedNorm": {"scale": jnp.ones((1, 2))}, "stack": {"bias": jnp.ones((3, 2))},
            "prototypes": jnp.ones((3, 2))}
  assert optim.weights(params) == {
      "Dense_0": {"kernel": True, "bias": False}, "BatchNorm_0": {"scale": False, "bias": False},
      "GroupedNorm": {"scale": False}, "stack": {"bias": False}, "prototypes": True}


def test_clipping_limits_the_norm_of_all_gradients_together():
  params = {"a": jnp.zeros((1, 1)), "b": jnp.zeros(1)}
  gradients = {"a": jnp.full((1, 1), 30.), "b": jnp.full(1, 40.)}
  optimizer = optim.make_optimizer("sgd", schedules.constant(1.0), clip_norm=5.0)
  (after,), _ = run(optimizer, params, [gradients])
  np.testing.assert_allclose([after["a"][0, 0], after["b"][0]], [-3, -4], rtol=1e-6)


@pytest.mark.parametrize("rule,want", [("linear", 4.8), ("sqrt", 19.2), ("none", .3)])
def test_learning_rate_follows_the_batch(rule, want):
  assert optim.scaled_learning_rate(.3, 4096, rule) == pytest.approx(want)


def test_simclrs_two_rules_agree_at_its_batch():
  assert optim.scaled_learning_rate(.3, 4096, "linear") == pytest.approx(
      optim.scaled_learning_rate(.075, 4096, "sqrt"))


@pytest.mark.parametrize("call,words", [
    (lambda: optim.make_optimizer("lars", rate), ["'lars'", "lars_byol"]),
    (lambda: optim.make_optimizer("sgd", rate, momemtum=.9), ["momemtum", "'momentum'"]),
    (lambda: optim.scaled_learning_rate(1., 8, "lineal"), ["'lineal'", "'linear'"]),
])
def test_unknown_names_are_told_with_the_nearest(call, words):
  with pytest.raises(UserError) as error:
    call()
  assert all(w in str(error.value) for w in words)
