"""Scenes against naive loops, and the laws that make them usable inside a sharded step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from collectives import collectives
from jax.sharding import NamedSharding, PartitionSpec
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image

from ssl_jax.augment import crop, views
from ssl_jax.augment import scenes as s
from ssl_jax.augment.textures import texture
from ssl_jax.errors import UserError

SIDE = 24
KEY = jax.random.key(3)


def batch(count=16):
  """Pieces of a photograph with soft discs for masks, as if squashed from several shapes."""
  random = np.random.default_rng(0)
  photograph = load_sample_image("china.jpg")
  corners = random.integers(0, 400, (count, 2))
  y, x = np.mgrid[:SIDE, :SIDE] + 0.5
  discs = [np.clip(9 + i % 3 - np.hypot(y - 12, x - 10), 0, 1) for i in range(count)]
  shapes = np.array([[24, 24], [60, 48], [30, 90]])[np.arange(count) % 3]
  return {"image": jnp.array([photograph[i:i + SIDE, j:j + SIDE] for i, j in corners]),
          "mask": jnp.array(np.rint(255 * np.array(discs)), jnp.uint8),
          "size": jnp.array(shapes), "index": jnp.arange(count)}


def staged(scene, images=None):
  """The images of a batch after a scene, as numpy."""
  applied = jax.jit(scene, compiler_options=tiny.QUICK)
  return np.asarray(applied(KEY, batch() if images is None else images)["image"])


def pasted_on_grey(image, mask, level):
  """The composite, pixel by pixel in Python, before it is rounded."""
  out = np.zeros(image.shape)
  for i in range(SIDE):
    for j in range(SIDE):
      alpha = float(mask[i, j]) / 255
      for c in range(3):
        out[i, j, c] = alpha * float(image[i, j, c]) + (1 - alpha) * level
  return out


def test_dilo_is_the_naive_loop_on_one_grey_level_for_each_image():
  images, out = batch(), staged(s.dilo(probability=1.0, blur=0.0))
  levels = set()
  for image, mask, made in zip(*(np.asarray(images[k]) for k in ("image", "mask")), out):
    assert mask[0, 0] == 0
    level = made[0, 0, 0]
    levels.add(int(level))
    np.testing.assert_allclose(made, pasted_on_grey(image, mask, level), atol=0.501)
    np.testing.assert_array_equal(made[mask == 255], image[mask == 255])
  assert len(levels) > 10
  assert 255 not in levels  # floor(255 u)


def test_the_mask_is_blurred_in_pixels_of_the_original_with_its_border_repeated():
  images = batch()
  images["image"] = jnp.full_like(images["image"], 255)
  images["mask"] = images["mask"].at[:, :, :4].set(255)  # at the border too
  out = staged(s.dilo(probability=1.0, blur=1.0, radius=3.0), images)
  for i in range(6):
    sigma = 3.0 * SIDE / np.asarray(images["size"][i])
    alpha = gaussian_filter(np.asarray(images["mask"][i], float) / 255, sigma, mode="nearest",
                            truncate=8)
    darkest = np.unravel_index(alpha.argmin(), alpha.shape)
    level = (out[i][darkest][0] - 255 * alpha[darkest]) / (1 - alpha[darkest])
    np.testing.assert_allclose(out[i, ..., 0], 255 * alpha + level * (1 - alpha), atol=1.6)


@pytest.mark.parametrize("name", ["grey", "images", "textures"])
def test_without_pasting_the_bytes_stay_and_with_it_so_does_what_is_in_front(name):
  images = batch()
  still = staged(s.dilo(probability=0.0, backgrounds=name))
  np.testing.assert_array_equal(still, images["image"])
  always = staged(s.dilo(probability=1.0, backgrounds=name, blur=0.0))
  front = np.asarray(images["mask"]) == 255
  np.testing.assert_array_equal(always[front], np.asarray(images["image"])[front])
  assert (np.abs(always.astype(int) - images["image"]).max((1, 2, 3)) > 20).all()


def many(count, side=4):
  return {"image": jnp.full((count, side, side, 3), 100, jnp.uint8),
          "mask": jnp.zeros((count, side, side), jnp.uint8).at[:, :2].set(255),
          "size": jnp.full((count, 2), side), "index": jnp.arange(count)}


def test_three_in_ten_are_pasted_and_each_view_draws_for_itself():
  def still(key, image, extent):
    del key, extent
    return image

  both = views.together({"a": still, "b": still}, dict.fromkeys("ab", s.dilo()))
  images = many(4000)
  shown = jax.jit(both, compiler_options=tiny.QUICK)(KEY, images)
  a, b = ((np.asarray(shown[name]) != 100).any((1, 2, 3)) for name in "ab")
  for hit in (a, b):
    assert abs(hit.mean() - 0.3 * 254 / 255) < 0.03  # four standard errors; a grey may be 100
  assert abs((a & b).mean() - 0.09) < 0.02
  other = np.asarray(jax.jit(both, compiler_options=tiny.QUICK)(jax.random.key(4), images)["a"])
  assert 0.3 < ((other != 100).any((1, 2, 3)) != a).mean() < 0.54


def test_background_removal_is_the_naive_loop_within_its_limits():
  images = batch()
  masks = np.array(images["mask"])
  masks[3], masks[4] = 255, 0  # all foreground, none
  masks[5] = 0
  masks[5, :2, :14] = 255  # 28 of 576 pixels: 4.9 %
  masks[6] = 0
  masks[6, :2, :15] = 255  # 5.2 %
  images["mask"] = jnp.array(masks)
  for fill in ("grey", "black", "mean"):
    out = staged(s.remove_background(probability=1.0, fill=fill), images)
    for i, (image, mask) in enumerate(zip(np.asarray(images["image"]), masks)):
      if i in (3, 4, 5):
        np.testing.assert_array_equal(out[i], image)
        continue
      behind = mask < 127.5
      level = {"black": [0, 0, 0], "mean": np.rint(image.mean((0, 1)))}.get(fill)
      level = out[i][behind][0] if level is None else level
      assert fill != "grey" or len(set(level.tolist())) == 1
      for y in range(SIDE):
        for x in range(SIDE):
          np.testing.assert_array_equal(out[i, y, x], level if behind[y, x] else image[y, x])


def test_background_removal_happens_to_one_in_ten():
  changed = (staged(s.remove_background(fill="black"), many(4000)) != 100).any((1, 2, 3))
  assert abs(changed.mean() - 0.1) < 0.02


def test_a_background_covers_the_image_and_is_cut_from_the_first_half_of_what_is_left():
  ramp = np.zeros((SIDE, SIDE, 3), np.uint8)
  ramp[..., 0], ramp[..., 1] = 10 * np.mgrid[:SIDE, :SIDE]  # place in the photograph, times 10
  cases = {((48, 96), (24, 24)): None, ((24, 24), (48, 96)): None, ((30, 20), (40, 10)): None}
  run = jax.jit(s.cover)
  for extent, size in cases:
    corners = []
    for seed in range(12):
      out = np.asarray(run(jax.random.key(seed), jnp.array(ramp), jnp.array(extent),
                           jnp.array(size))) * 255
      scale = max(1, *(w / e for w, e in zip(size, extent)))
      for axis in (0, 1):
        # From the middle of the first output pixel to the middle of the last, in pixels of the
        # photograph; the ramp says where that is.
        line = (out[SIDE // 2, :, 1] if axis else out[:, SIDE // 2, 0])[2:-2]
        inside = np.arange(2, SIDE - 2) + 0.5
        slope, start = np.polyfit(inside, (line / 10 + 0.5) * extent[axis] / SIDE, 1)
        np.testing.assert_allclose(slope * SIDE, size[axis] / scale, rtol=0.02)
        slack = (extent[axis] - size[axis] / scale) / 2
        assert -0.5 < start < slack + 0.6
        corners.append(round(float(start)))
    assert len(set(corners)) > 1 or extent == (24, 24)


def test_other_images_come_from_the_same_group_never_from_itself():
  images = batch() | {"image": jnp.broadcast_to(
      jnp.arange(16, dtype=jnp.uint8)[:, None, None, None], (16, SIDE, SIDE, 3))}
  images["mask"] = jnp.zeros_like(images["mask"])
  scene = jax.jit(s.dilo(probability=1.0, backgrounds="images"), compiler_options=tiny.QUICK)
  seen = {tuple(scene(jax.random.key(seed), images)["image"][:, 5, 5, 0].tolist())
          for seed in range(8)}
  for partners in seen:
    assert all(i != j and i // 8 == j // 8 for i, j in enumerate(partners))
  assert len(seen) > 2
  with pytest.raises(UserError, match="use an even config"):
    s.dilo(backgrounds="images")(KEY, batch(7))


@functools.cache
def both_scenes(devices: int):
  """Two scenes on a mesh: their pixels, and the collectives of DiLo's with other images."""
  mesh = tiny.mesh_of(devices)
  images = jax.device_put(batch(64), NamedSharding(mesh, PartitionSpec("data")))
  made = [jax.jit(scene, compiler_options=tiny.QUICK).lower(KEY, images).compile()
          for scene in (s.dilo(backgrounds="images"), s.remove_background(probability=0.5))]
  return [np.asarray(run(KEY, images)["image"]) for run in made], collectives(made[0])


def test_scenes_do_not_depend_on_the_number_of_devices_and_move_no_pixels():
  (one, eight), (_, sent) = zip(both_scenes(1)[0], both_scenes(8)[0]), both_scenes(8)
  for a, b in (one, eight):
    np.testing.assert_array_equal(a, b)
  assert all(c.elements <= 64 for c in sent), sent  # keys at most


def test_a_pool_of_photographs_gives_the_textures():
  pool = {"image": jnp.array([40, 80], jnp.uint8)[:, None, None, None] * jnp.ones(
      (2, SIDE, SIDE, 3), jnp.uint8), "size": jnp.array([[50, 40], [20, 20]])}
  out = staged(s.dilo(probability=1.0, blur=0.0, backgrounds="textures", textures=pool))
  assert set(out[:, 0, 0, 0].tolist()) == {40, 80}


def test_textures_differ_are_in_range_and_have_contrast():
  made = jax.jit(jax.vmap(lambda key: texture(key, 32)))(jax.random.split(KEY, 16))
  assert made.shape == (16, 32, 32, 3)
  assert (made >= 0).all() and (made <= 1).all()
  assert (np.asarray(made).std((1, 2)).max(-1) > 0.03).all()
  apart = np.abs(np.asarray(made)[:, None] - np.asarray(made)).mean((2, 3, 4))
  assert (apart[~np.eye(16, dtype=bool)] > 0.03).all()


def test_an_image_and_its_mask_are_cut_by_one_box():
  both = s.with_mask(functools.partial(crop.random_resized_crop, size=16))
  image = batch()["image"][0]
  cut, mask = jax.jit(both)(KEY, image, image[..., 1], jnp.array([60, 48]))
  assert mask.shape == (16, 16)
  np.testing.assert_array_equal(mask, cut[..., 1])


def test_views_are_in_a_scene_by_the_beginning_of_their_names():
  multi = ("large0", "large1", "small0")
  assert s.scenes("none", multi) == {}
  assert set(s.scenes("dilo", multi)) == set(multi)
  assert set(s.scenes("remove_background", multi)) == {"large0", "large1"}
  assert set(s.scenes("remove_background", ("a", "b"), views=("b",))) == {"b"}
  with pytest.raises(UserError, match="begin with large, and the run's are a, b; set"):
    s.scenes("remove_background", ("a", "b"))


@pytest.mark.parametrize(("name", "settings", "message"), [
    ("dylo", {}, "unknown scene 'dylo'; .*dilo"),
    ("dilo", {"probabilty": 0.1}, "no setting 'probabilty' .*probability"),
    ("dilo", {"backgrounds": "gray"}, "config.scene.backgrounds is 'gray'; .*grey"),
    ("remove_background", {"fill": "blak", "views": ["a"]}, "config.scene.fill is 'blak'.*black")])
def test_a_mistake_is_one_line_with_the_nearest_name(name, settings, message):
  with pytest.raises(UserError, match=message):
    s.scenes(name, ("a",), **settings)


def test_views_without_a_scene_are_as_if_there_were_none_for_others():
  view = views.chain(functools.partial(crop.random_resized_crop, size=16), crop.random_flip)
  named = {"a": view, "b": view}

  def shown(scenes):
    return jax.jit(views.together(named, scenes), compiler_options=tiny.QUICK)(KEY, batch())

  plain, one, never = shown({}), shown({"b": s.dilo(probability=1.0)}), shown(
      {"b": s.dilo(probability=0.0)})
  np.testing.assert_array_equal(plain["a"], one["a"])
  assert np.abs(plain["b"] - one["b"]).max() > 0.1
  for name in named:
    np.testing.assert_array_equal(plain[name], never[name])
