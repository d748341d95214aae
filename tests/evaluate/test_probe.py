"""The SGD probe: many rates at the price of one, none of them touching the encoder."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.evaluate import probe

F, C, B, STEPS = 6, 3, 12, 30


def batches(seed, count=None):
  """Images whose class is written in their pixels, noisily."""
  generator = np.random.default_rng(seed)
  for _ in itertools.count() if count is None else range(count):
    labels = generator.integers(0, C, B).astype(np.int32)
    image = np.eye(C)[labels][:, :, None, None] + .5 * generator.normal(size=(B, C, 2, 1))
    yield {"image": image.astype(np.float32), "label": labels}


def encode(variables, images):
  return jnp.tanh(images.reshape(len(images), -1) @ variables["kernel"])


def view(key, batch):
  return batch["image"] + .1 * jax.random.normal(key, batch["image"].shape)


VARIABLES = {"kernel": jax.random.normal(jax.random.key(0), (C * 2, F))}
RECIPE = probe.RECIPES["byol"]


def run(learning_rates, recipe=RECIPE, **changes):
  settings = dict(
      recipe=recipe, encode=encode, variables=VARIABLES, view=view,
      encode_batch=jax.jit(lambda b: encode(VARIABLES, b["image"])), train=batches(1),
      validation=batches(2, 4), test=batches(3, 20), key=jax.random.key(5), num_classes=C,
      total_steps=STEPS, batch_size=B, learning_rates=learning_rates)
  return probe.sgd_probe(**settings | changes)


def heads_of(learning_rates, recipe=RECIPE, steps=STEPS):
  init, step = probe.probe(recipe, encode, view, num_features=F, num_classes=C, total_steps=STEPS,
                           batch_size=B, learning_rates=learning_rates)
  state, step = init(jax.random.key(9)), jax.jit(step)
  for batch in itertools.islice(batches(1), steps):
    state, metrics = step(jax.random.key(5), VARIABLES, state, batch)
  return state.heads, metrics


def test_a_sweep_trains_each_rate_as_if_it_were_alone():
  together, metrics = heads_of((4.0, 1.0, 0.1))
  assert metrics["loss"].shape == metrics["top1"].shape == (3,)
  for i, rate in enumerate((4.0, 1.0, 0.1)):
    alone, _ = heads_of((rate,))
    np.testing.assert_allclose(together.kernel[i], alone.kernel[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(together.bias[i], alone.bias[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("nesterov", [True, False])
def test_a_step_is_sgd_on_the_cross_entropy(nesterov):
  """Two steps written out in numpy, with a penalty that spares the bias."""
  recipe = RECIPE._replace(nesterov=nesterov, weight_decay=.1, curve=lambda total: lambda k: 1.0)
  got, _ = heads_of((8.0,), recipe, steps=2)
  init, _ = heads_of((8.0,), recipe._replace(curve=lambda total: lambda k: 0.0), steps=1)
  w, b = np.asarray(init.kernel[0], np.float64), np.zeros(C)
  vw, vb, rate = 0.0, 0.0, 8.0 * B / 256
  for k, batch in enumerate(itertools.islice(batches(1), 2)):
    x = np.asarray(encode(VARIABLES, view(jax.random.fold_in(jax.random.key(5), k), batch)))
    p = np.exp(x @ w + b)
    error = (p / p.sum(1, keepdims=True) - np.eye(C)[batch["label"]]) / B
    gw, gb = x.T @ error + .1 * w, error.sum(0)
    vw, vb = .9 * vw + gw, .9 * vb + gb
    w = w - rate * (gw + .9 * vw if nesterov else vw)
    b = b - rate * (gb + .9 * vb if nesterov else vb)
  np.testing.assert_allclose(got.kernel[0], w, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(got.bias[0], b, rtol=1e-4, atol=1e-5)


def test_the_best_rate_on_the_validation_part_is_scored_on_the_test_set():
  before = jax.tree.map(np.array, VARIABLES)
  seen = []
  got = run((20.0, 1e-7), report=lambda step, metrics: seen.append(step))
  assert got["learning_rate"] == 20.0 and got["top1"] > 80 and got["top5"] == 100
  assert got["validation_top1"]["20.0"] > got["validation_top1"]["1e-07"]
  features = [encode(VARIABLES, b["image"]) for b in batches(3, 20)]
  logits = got["heads"].logits(jnp.concatenate(features))[0]
  labels = np.concatenate([b["label"] for b in batches(3, 20)])
  assert got["top1"] == pytest.approx(
      100 * (np.asarray(logits).argmax(-1) == labels).mean(), abs=1e-4)
  assert seen == list(range(1, STEPS + 1))
  jax.tree.map(np.testing.assert_array_equal, VARIABLES, before)


def test_the_test_labels_choose_nothing():
  wrong = ({**b, "label": (b["label"] + 1) % C} for b in batches(3, 20))
  assert run((1e-7, 20.0), test=wrong)["learning_rate"] == 20.0


def test_a_rate_that_diverges_is_not_chosen_and_told_if_it_is_alone():
  assert run((1e39, 5.0))["learning_rate"] == 5.0
  with pytest.raises(UserError, match="diverged"):
    run((1e39,))


def test_rows_that_fill_up_a_batch_do_not_count():
  heads, _ = heads_of((5.0,))
  apply = lambda b: encode(VARIABLES, b["image"])
  whole = probe.judge(heads, apply, batches(3, 2))
  padded = [{"image": np.concatenate([b["image"], b["image"]]),
             "label": np.concatenate([b["label"], (b["label"] + 1) % C]),
             "valid": np.arange(2 * B) < B} for b in batches(3, 2)]
  assert probe.judge(heads, apply, padded) == whole


@pytest.mark.parametrize("name", probe.RECIPES)
def test_every_recipe_starts_at_its_rate_and_ends_low(name):
  recipe = probe.RECIPES[name]
  curve = recipe.curve(1000)
  assert curve(0) == 1 and curve(999) < 0.02
  assert (np.diff([float(curve(k)) for k in range(0, 1000, 50)]) <= 1e-7).all()
  kernel = recipe.init(jax.random.key(0), (2048, 10))
  assert kernel.shape == (2048, 10) and np.abs(kernel).max() < 0.1


def test_mocos_rate_falls_at_60_and_80_percent():
  curve = probe.RECIPES["moco"].curve(200)
  np.testing.assert_allclose([curve(k) for k in (119, 120, 159, 160)], [1, .1, .1, .01], rtol=1e-5)
