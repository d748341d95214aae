"""A config becomes parts: canvas, schedules, views and the frozen encoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ssl_jax import build
from ssl_jax.errors import UserError


@pytest.mark.parametrize(("asked", "shape", "size", "canvas"), [
    (0, (28, 28), 28, 28), (0, (28, 28), 16, 28), (0, None, 224, 256), (0, (500, 375), 224, 256),
    (0, (96, 96), 32, 37), (300, (28, 28), 28, 300)])
def test_the_canvas_fits_the_images_and_the_crop(asked, shape, size, canvas):
  source = dataclasses.replace(tiny.images(), image_shape=shape)
  assert build.canvas_for({"canvas": asked, "views": {"size": size}}, source) == canvas


@pytest.mark.parametrize(("change", "expected"), [
    ({"name": "cosine"}, [0.2, 0.1, 0.0]),
    ({"name": "constant"}, [0.2, 0.2, 0.2]),
    ({"name": "steps", "boundaries_percent": (50.0, 90.0)}, [0.2, 0.02, 0.002]),
    ({"name": "constant", "scaling": "none"}, [0.1, 0.1, 0.1]),
    ({"name": "constant", "scaling": "sqrt"}, [0.1 * 512**0.5] * 3)])
def test_schedules_by_name(change, expected):
  schedule = {"base_lr": 0.1, "scaling": "linear", "factor": 0.1, "warmup_steps": 0} | change
  rate, peak = build.learning_rate({"schedule": schedule, "batch_size": 512}, 5120, 100)
  np.testing.assert_allclose([rate(0), rate(51), rate(100)][0::2], expected[0::2], atol=1e-7)
  np.testing.assert_allclose(rate(50), expected[1], rtol=1e-5)
  assert peak == pytest.approx(expected[0])


def test_a_run_shorter_than_a_step_is_refused():
  with pytest.raises(UserError, match=r"config.total is 0 steps of 16 images"):
    tiny.parts("simclr", total_steps=None, total_examples=15)


def test_options_left_empty_take_their_defaults():
  assert build.split_name({"name": "sgd", "momentum": 0.9, "clip_norm": None}) == (
      "sgd", {"momentum": 0.9})


def test_the_checkpoint_tells_how_to_rebuild_and_feed_the_encoder():
  parts = tiny.parts("simclr", views__size=28, model__stem="auto")
  assert parts.meta["model"]["stem"] == "small"  # what auto chose, so that it stays
  told = parts.meta["preprocessing"]
  assert (told["canvas"], told["preset"], told["size"], told["proportion"]) == (28, "center", 28, 1)
  assert len(told["mean"]) == len(told["std"]) == 3
  assert build.backbone(parts.meta["model"]) == parts.method.network.backbone


def test_a_frozen_encoder_shows_an_image_alike_in_any_company():
  parts = tiny.parts("simclr")
  state = tiny.first_state(parts, tiny.mesh_of(1))
  variables = {"params": state.params["backbone"], "batch_stats": state.stats["backbone"]}
  encode = jax.jit(build.encode(parts.method.network.backbone, parts.meta["preprocessing"]),
                   compiler_options=tiny.QUICK)
  batch = jax.tree.map(jnp.asarray, tiny.host_batch())
  shown = {k: batch[k] for k in ("image", "size")}
  reverse = jax.tree.map(lambda x: x[::-1], shown)
  features = encode(variables, shown)
  assert features.shape == (16, 16)
  np.testing.assert_allclose(encode(variables, reverse)[::-1], features, rtol=1e-5, atol=1e-6)
  alone = jax.tree.map(lambda x: jnp.repeat(x[:1], 16, 0), shown)
  np.testing.assert_allclose(encode(variables, alone)[5], features[0], rtol=1e-5, atol=1e-6)
