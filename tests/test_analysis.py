"""The analysis of a tiny encoder: its figures follow from its features, and its pictures exist."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from etils import epath
from PIL import Image

from configs.transfer import analysis as analysis_config
from ssl_jax import analysis, build, config, data
from ssl_jax.evaluate.attention import attentive_diffusion
from ssl_jax.evaluate.geometry import class_distances


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  """(results, workdir, saved) of a network as at birth, on a hundred images of each."""
  meta = tiny.parts("simclr").meta | {"config": {"views": {"preset": "crop_flip", "size": 16}}}
  module = build.backbone(meta["model"])
  variables = jax.jit(lambda key: module.init(key, jnp.zeros((1, 16, 16, 3)), train=False),
                      compiler_options=tiny.QUICK)(jax.random.key(0))
  saved = types.SimpleNamespace(variables=variables, meta=meta)
  raw = analysis_config.get_config()
  raw.update({"init": "somewhere", "images": 100, "batch_size": 50, "others": ("runs/other",)})
  raw.attention.update({"images": 2, "stride": 2})
  raw.inversion.update({"images": 1, "steps": 5, "channels": (4,)})
  settings = config.resolve(raw)
  workdir = epath.Path(tmp_path_factory.mktemp("analysis"))
  jax.config.update("jax_disable_most_optimizations", True)  # nothing runs twice
  try:
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(analysis, "load_encoder", lambda path: saved)
      results = analysis.analyse(
          settings, workdir, saved, tiny.images(),
          data.open_source("bundled:fashion_mnist_mini", "test[:150]"))
  finally:
    jax.config.update("jax_disable_most_optimizations", False)
  return json.loads(json.dumps(results)), workdir, saved


def test_layers_are_the_networks_and_the_last_ones_mean_is_the_features(done):
  results, _, saved = done
  assert list(results["layers"]) == ["stage1", "features"]
  assert [results["layers"][n]["width"] for n in results["layers"]] == [8, 16]
  test = data.sample(data.open_source("bundled:fashion_mnist_mini", "test[:150]"), 100, 0)
  stored = data.load_all(test, 28)
  encode = build.encode(build.backbone(saved.meta["model"]), saved.meta["preprocessing"])
  features = jax.jit(encode, compiler_options=tiny.QUICK)(
      saved.variables, {k: stored[k] for k in ("image", "size")})
  want = class_distances(features, stored["label"], num_classes=10)
  for name, value in want.items():
    np.testing.assert_allclose(results["layers"]["features"][name], value, rtol=1e-3)
  assert results["linear"]["top1"] == results["layers"]["features"]["probe_top1"]
  assert results["linear"]["temperature"] > 0 and 0 <= results["linear"]["ece"] <= 100
  assert 0 < results["features"]["alignment"] < 4


def test_an_encoder_is_like_itself_by_whatever_name(done):
  results, *_ = done
  assert set(results["similarity"]) == {"itself", "other"}
  own, other = results["similarity"]["itself"], results["similarity"]["other"]
  for layer in own:
    np.testing.assert_allclose(own[layer][layer], 1, rtol=1e-4)
    assert own[layer] == pytest.approx(other[layer])
  assert own["stage1"]["features"] == pytest.approx(own["features"]["stage1"], rel=1e-4)


def test_attention_and_inversion_keep_their_pictures(done):
  results, workdir, *_ = done
  with np.load(workdir / "attention.npz") as kept:
    assert kept["images"].shape == (2, 16, 16, 3) and kept["maps"].shape == (2, 16, 16)
    np.testing.assert_allclose(results["attention"]["each"], attentive_diffusion(kept["maps"]),
                               rtol=1e-5)
  found = results["inversion"]
  assert found["layer"] == "stage2" and found["judge"] == "itself" and found["steps"] == 5
  assert 0 < found["mse_red"] < 255**2 and found["perceptual"] > 0
  for name in ("reliability", "layers_probe_top1", "layers_ratio", "cka", "attention", "inversion"):
    image = np.asarray(Image.open(workdir / f"{name}.png").convert("L"))
    assert image[0, 0] == 255 and image.std() > 5, name
