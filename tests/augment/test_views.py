import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from collectives import collectives
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sklearn.datasets import load_sample_image

from ssl_jax.augment import presets as p
from ssl_jax.augment import views as v
from ssl_jax.augment.crop import random_flip, random_resized_crop
from ssl_jax.augment.jitter import random_jitter_torchvision
from ssl_jax.augment.photometric import to_greyscale
from ssl_jax.errors import UserError

PAIRS = ("simclr", "simclr_v1", "moco_v1", "moco_v2", "moco_v2_strong", "moco_v3", "byol", "supcon")
MANY = ("clsa_single", "clsa_multi", "relicv2")  # have names of their own
SINGLES = ("crop_flip", "crop_flip_byol", "crop_flip_simclr", "center", "center_bicubic",
           "center_byol", "center_simclr")


def batch(count=8, side=40):
  """Pieces of a photograph, as if squashed from originals of many shapes."""
  random = np.random.default_rng(0)
  photograph = load_sample_image("flower.jpg")
  corners = random.integers(0, 427 - side, (count, 2))
  shapes = np.array([[side, side], [300, 500], [500, 120], [side // 2, side // 2]])
  return {"image": jnp.stack([photograph[y:y + side, x:x + side] for y, x in corners]),
          "size": jnp.array(shapes[np.arange(count) % 4])}


def even(colour, count, side):
  image = jnp.broadcast_to(jnp.array(colour, jnp.uint8), (count, side, side, 3))
  return {"image": image, "size": jnp.full((count, 2), side)}


@functools.cache
def view(name, size=24, **settings):
  """The compiled first view of a preset, without normalisation; shared by the tests."""
  return jax.jit(v.batched(p.preset(name, size=size, mean=p.ZERO, std=p.ONE, **settings)["a"]))


def test_the_registry_holds_pairs_and_more_for_pretraining_and_single_views():
  assert {*PAIRS, *MANY, *SINGLES} == set(p.PRESETS)
  assert all(set(p.preset(name, size=8)) == {"a", "b"} for name in PAIRS)
  assert all(set(p.preset(name, size=8)) == {"a"} for name in SINGLES)


@pytest.mark.parametrize("name", PAIRS)
def test_a_view_is_random_and_its_key_determines_it(name):
  first, again = (view(name)(jax.random.key(0), batch()) for _ in range(2))
  other = view(name)(jax.random.key(1), batch())
  assert first.shape == (8, 24, 24, 3)
  assert first.dtype == jnp.float32
  assert 0 <= first.min() < first.max() <= 1 + 1e-6  # a blur rounds
  np.testing.assert_array_equal(first, again)
  different = abs(first - other).max((1, 2, 3)) > 1e-3
  assert different.sum() >= 6  # additive brightness makes some views white


def test_a_pair_is_two_views_drawn_independently():
  single = p.preset("crop_flip", size=24, mean=p.ZERO, std=p.ONE)["a"]
  pair = jax.jit(v.together({"a": single, "b": single}))(jax.random.key(0), batch())
  assert set(pair) == {"a", "b"}
  assert all(abs(pair["a"] - pair["b"]).max((1, 2, 3)) > 1e-3)
  for i, images in enumerate(pair.values()):
    key = jax.random.fold_in(jax.random.key(0), i)
    np.testing.assert_allclose(images, view("crop_flip")(key, batch()), atol=1e-6)


@pytest.mark.parametrize("name", SINGLES)
def test_views_may_be_smaller_or_larger_than_the_image(name):
  for size in (24, 64):
    images = view(name, size)(jax.random.key(0), batch())
    assert images.shape == (8, size, size, 3)
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("name", PAIRS)
def test_grey_images_have_grey_views(name):
  grey = batch()
  grey["image"] = grey["image"][..., :1].repeat(3, axis=-1)
  images = view(name)(jax.random.key(0), grey)
  np.testing.assert_allclose(images, images.mean(-1, keepdims=True).repeat(3, -1), atol=1e-5)


def test_the_view_of_an_image_does_not_depend_on_the_others():
  one = batch()
  other = {**one, "image": one["image"].at[1].set(0)}
  before, after = (view("moco_v2")(jax.random.key(0), b) for b in (one, other))
  assert abs(before[1] - after[1]).max() > 1e-3
  np.testing.assert_array_equal(before.at[1].set(0), after.at[1].set(0))


def test_views_end_normalised():
  chosen = p.preset("center", size=24, mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3))
  images = jax.jit(v.batched(chosen["a"]))(jax.random.key(0), batch())
  plain = view("center")(jax.random.key(0), batch())
  undone = images * jnp.array([0.5, 0.4, 0.3]) + jnp.array([0.1, 0.2, 0.3])
  np.testing.assert_allclose(undone, plain, atol=1e-6)


def test_moco_v1_is_crop_grey_jitter_flip_in_this_order():
  fold = jax.random.fold_in
  images, key = batch(), jax.random.key(5)
  actual = view("moco_v1")(key, images)
  crop = jax.jit(functools.partial(random_resized_crop, size=24, area=(0.2, 1.0)))
  jitter = jax.jit(functools.partial(
      random_jitter_torchvision, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4))
  greys = 0
  for i in range(8):
    one = fold(key, i)
    rest = fold(one, 1)
    x = crop(fold(one, 0), images["image"][i], images["size"][i])
    if jax.random.uniform(fold(fold(rest, 0), 0)) < 0.2:
      x, greys = to_greyscale(x), greys + 1
    x = random_flip(fold(rest, 2), jitter(fold(rest, 1), x))
    np.testing.assert_allclose(actual[i], x, atol=1e-5)
  assert 0 < greys < 8


def test_compose_gives_each_operation_its_own_key_in_order():
  def add(key, image):
    return 2 * image + jax.random.uniform(key)

  key = jax.random.key(0)
  drawn = [jax.random.uniform(jax.random.fold_in(key, i)) for i in range(2)]
  expected = 2 * (2 * 1.0 + drawn[0]) + drawn[1]
  np.testing.assert_allclose(v.compose(add, add)(key, jnp.ones(())), expected, rtol=1e-6)


@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_sometimes_acts_with_its_probability(probability):
  op = v.sometimes(probability, v.keyless(lambda x: x + 1))
  keys = jax.random.split(jax.random.key(0), 4000)
  rate = jax.vmap(lambda key: op(key, jnp.zeros(())))(keys).mean()
  assert abs(rate - probability) <= 0.03 * (0 < probability < 1)


@pytest.mark.parametrize("name", ["simclr", "moco_v1", "byol"])
def test_a_fifth_of_all_views_is_grey_and_without_jitter_the_others_keep_their_colour(name):
  colour = np.array([250, 100, 30])
  images = view(name, 8, strength=0.0)(jax.random.key(1), even(colour, 600, 8))
  grey = np.asarray(images[:, 4, 4, 0] == images[:, 4, 4, 1])
  assert abs(grey.mean() - 0.2) < 0.075
  np.testing.assert_allclose(
      images[~grey], np.broadcast_to(colour / 255, images[~grey].shape), atol=1e-5)


def test_byol_blurs_and_solarises_its_two_views_by_their_own_probabilities():
  # On white, zeros beyond the border darken a blurred view there; solarised white is black.
  pair = v.together(p.preset("byol", size=40, strength=0.0, mean=p.ZERO, std=p.ONE))
  pair = jax.jit(pair)(jax.random.key(2), even([255, 255, 255], 400, 40))
  for images, blurred, solarised in ((pair["a"], 1.0, 0.0), (pair["b"], 0.1, 0.2)):
    assert abs((images[:, 20, 20, 0] < 0.5).mean() - solarised) < 0.08
    changed = abs(images[:, 0, 0, 0] - images[:, 20, 20, 0]) > 1e-4
    visible = (2.0 - 0.25) / 1.9  # below sigma 0.25 a neighbour weighs less than 1e-3
    assert abs(changed.mean() - blurred * visible) < 0.08


def test_relicv2_has_large_and_small_views_that_take_turns_with_byols_two():
  views = p.preset("relicv2", size=24, large_area=(0.2, 1.0), small_area=(0.2, 1.0))
  assert list(views) == ["large0", "large1", "large2", "large3", "small0", "small1"]
  for size, names in ((24, ("large2", "large3")), (10, ("small0", "small1"))):
    pair = p.preset("byol", size=size, min_area=0.2)
    both = jax.jit(lambda key, views: [v.batched(view)(key, batch()) for view in views],
                   static_argnums=1, compiler_options=tiny.QUICK)
    got, want = (both(jax.random.key(0), tuple(x)) for x in (
        (views[name] for name in names), pair.values()))
    assert got[0].shape == (8, size, size, 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


def test_a_small_view_of_relicv2_shows_a_twentieth_to_a_seventh_of_the_image():
  ramp = np.broadcast_to(np.arange(240, dtype=np.uint8)[:, None], (240, 240, 3))
  stored = {"image": jnp.stack([ramp] * 64), "size": jnp.full((64, 2), 240)}
  views = p.preset("relicv2", size=28, strength=0, blur=(0, 0), solarised=(0, 0), mean=p.ZERO,
                   std=p.ONE)
  images = jax.jit(v.together({name: views[name] for name in ("large0", "small0")}),
                   compiler_options=tiny.QUICK)(jax.random.key(0), stored)
  seen = {name: np.ptp(x[..., 0], axis=(1, 2)) * 255 / 240 for name, x in images.items()}
  # The longer side of a crop is 1.15 times the root of its area, at the most.
  assert seen["small0"].max() < 1.16 * 0.14 ** 0.5 + 0.02
  assert seen["small0"].min() > 0.86 * 0.05 ** 0.5 * 0.8
  assert seen["large0"].max() > 0.7


def test_moco_v3_blurs_and_solarises_its_two_views_by_their_own_probabilities():
  """Whole images: of a bright line on white and on black."""
  line = np.zeros((400, 40, 40, 3), np.uint8)
  line[:, :, 20] = 100
  stored = {"image": jnp.asarray(line), "size": jnp.full((400, 2), 40)}
  views = p.preset("moco_v3", size=40, strength=0.0, min_area=1.0, mean=p.ZERO, std=p.ONE)
  pair = jax.jit(v.together(views), compiler_options=tiny.QUICK)
  lines, whites = (pair(jax.random.key(2), x) for x in (stored, even([255] * 3, 400, 40)))
  for name, blurred, solarised in (("a", 1.0, 0.0), ("b", 0.1, 0.2)):
    visible = (2.0 - 0.25) / 1.9  # below sigma 0.25 a neighbour weighs less than 1e-3
    changed = lines[name][:, 20].max((1, 2)) < 100 / 255 - 1e-3
    assert abs(changed.mean() - blurred * visible) < 0.08
    assert abs((whites[name][:, 20, 20, 0] < 0.5).mean() - solarised) < 0.08


def test_strength_scales_the_jitter():
  # Of an even grey image only brightness changes: by 0.25 * 0.8 at the most.
  images = view("simclr_v1", 8, strength=0.25, blur=0)(
      jax.random.key(3), even([128, 128, 128], 300, 8))
  changed = images - 128 / 255
  assert abs(changed).max() < 0.2 + 1e-5
  assert changed.min() < -0.18
  assert changed.max() > 0.18


@pytest.mark.parametrize("name", ["simclr", "moco_v2", "byol"])
def test_views_of_a_sharded_batch_exchange_nothing_and_equal_those_of_one_device(name):
  mesh = Mesh(jax.devices(), ("data",))
  assert mesh.size == 8
  by_image = NamedSharding(mesh, PartitionSpec("data"))
  sharded = jax.device_put(batch(), by_image)
  key = jax.device_put(jax.random.key(0), NamedSharding(mesh, PartitionSpec()))
  compiled = view(name).lower(key, sharded).compile()
  assert collectives(compiled) == []
  images = compiled(key, sharded)
  assert images.sharding.is_equivalent_to(by_image, 4)
  np.testing.assert_allclose(images, view(name)(jax.random.key(0), batch()), atol=1e-5)


def test_mistakes_are_named():
  with pytest.raises(UserError, match="'simclr'"):
    p.preset("simclrr", size=24)
  with pytest.raises(UserError, match="'strength'"):
    p.preset("byol", size=24, strenght=0.5)
  with pytest.raises(UserError, match="size=224"):
    p.preset("byol")
