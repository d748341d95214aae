import colorsys

import numpy as np
import pytest

from ssl_jax.augment import color


def pixels():
  """Random colours, greys, black, white, pure and mixed primaries, ties of two channels."""
  random = np.random.default_rng(0).uniform(size=(200, 3))
  corners = np.array(np.meshgrid([0, 0.5, 1], [0, 0.5, 1], [0, 0.5, 1])).reshape(3, -1).T
  return np.concatenate([random, corners]).astype(np.float32)


def test_hsv_of_a_known_pixel():
  hsv = color.rgb_to_hsv(np.array([0.2, 0.4, 0.8], np.float32))
  np.testing.assert_allclose(hsv, [0.6111111, 0.75, 0.8], atol=1e-6)


def test_luma_of_a_known_pixel():
  assert color.luma(np.array([0.2, 0.4, 0.8], np.float32)) == pytest.approx(0.38578, abs=1e-6)


def test_rgb_to_hsv_agrees_with_the_standard_library():
  expected = [colorsys.rgb_to_hsv(*map(float, p)) for p in pixels()]
  np.testing.assert_allclose(color.rgb_to_hsv(pixels()), expected, atol=2e-6)


def test_hsv_to_rgb_agrees_with_the_standard_library():
  expected = [colorsys.hsv_to_rgb(*map(float, p)) for p in pixels()]
  np.testing.assert_allclose(color.hsv_to_rgb(pixels()), expected, atol=2e-6)


def test_hsv_to_rgb_inverts_rgb_to_hsv():
  np.testing.assert_allclose(color.hsv_to_rgb(color.rgb_to_hsv(pixels())), pixels(), atol=2e-6)


def test_grey_has_neither_hue_nor_saturation():
  grey = np.repeat(np.linspace(0, 1, 5, dtype=np.float32)[:, None], 3, axis=1)
  np.testing.assert_array_equal(color.rgb_to_hsv(grey)[:, :2], 0)


@pytest.mark.parametrize("turns", [-0.4, -0.1, 0.25, 0.5, 1.0])
def test_rotating_the_hue_is_adding_to_it_in_hsv(turns):
  def reference(pixel):
    hue, saturation, value = colorsys.rgb_to_hsv(*map(float, pixel))
    return colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)

  rotated = np.stack(color.rotate_hue(pixels(), turns), axis=-1)
  np.testing.assert_allclose(rotated, [reference(p) for p in pixels()], atol=2e-6)


def test_a_third_of_a_turn_takes_red_to_green():
  red = np.array([1, 0, 0], np.float32)
  np.testing.assert_allclose(np.stack(color.rotate_hue(red, 1 / 3)), [0, 1, 0], atol=1e-6)


def test_means_are_those_of_each_channel():
  image = np.random.default_rng(1).uniform(size=(13, 7, 3)).astype(np.float32)
  np.testing.assert_allclose(color.channel_means(image), image.mean((0, 1)), rtol=1e-6)
