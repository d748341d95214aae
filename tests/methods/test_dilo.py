"""DiLo inside a method: the same on many devices, and nothing where it does nothing."""

import functools

import jax
import numpy as np
import tiny

from ssl_jax import build, data, program
from ssl_jax.sharding import global_batch

KEY = jax.random.key(5)


@functools.cache
def stored():
  return data.load_all(data.with_masks(tiny.images(), "threshold"), 28)


@functools.cache
def shown(devices: int, name: str, **scene):
  """The views of MoCo v2, whose keys are shuffled with their masks, as numpy: crop, flip, grey."""
  made = tiny.parts("moco_v2", scene__name=name, views__preset="supcon", views__strength=0.0,
                    **{f"scene__{option}": value for option, value in scene.items()})
  names = program.batch_shapes(16, 28, made.masked)
  index = np.arange(16, dtype=np.int32)
  host = {kind: stored()[kind][:16] for kind in names if kind != "index"} | {"index": index}
  assert ("mask" in host) == (name != "none")
  views = jax.jit(made.method.views, compiler_options=tiny.QUICK)(
      KEY, global_batch(tiny.mesh_of(devices), host))
  return jax.tree.map(np.asarray, views)


def test_views_with_pasted_foregrounds_do_not_depend_on_the_number_of_devices():
  one, eight = (shown(n, "dilo", backgrounds="images", probability=0.6) for n in (1, 8))
  for view, images in one.items():
    np.testing.assert_allclose(eight[view], images, atol=2e-5)


def test_a_scene_that_never_happens_is_no_scene_to_the_bit():
  for view, images in shown(1, "none").items():
    np.testing.assert_array_equal(shown(1, "dilo", probability=0.0)[view], images)
    assert np.abs(shown(1, "dilo", backgrounds="images", probability=0.6)[view] - images).max() > 1


def test_textures_may_come_from_a_source():
  config = {"seed": 0, "data_dir": "", "scene": {
      "name": "dilo", "probability": 1.0, "blur": 0.0, "backgrounds": "textures",
      "textures": "bundled:fashion_mnist_mini", "views": None}}
  scene = build.training_scenes(config, ("a",), 28)["a"]
  behind = {"image": stored()["image"][:8], "mask": np.zeros((8, 28, 28), np.uint8),
            "size": stored()["size"][:8]}
  textures = np.asarray(jax.jit(scene, compiler_options=tiny.QUICK)(KEY, behind)["image"])
  pool = data.load_all(data.sample(data.open_source(
      "bundled:fashion_mnist_mini", "train"), build.TEXTURES, 0), 28)["image"]
  chosen = [np.abs(pool.astype(int) - made).max((1, 2, 3)).argmin() for made in textures]
  np.testing.assert_allclose(textures, pool[chosen], atol=1)
  assert len(set(chosen)) > 1
