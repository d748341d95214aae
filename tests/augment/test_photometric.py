import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image

from ssl_jax.augment import photometric as p

LEVEL = 1 / 255
FACTORS = (0.0, 0.3, 1.0, 1.7)


@pytest.fixture(scope="module")
def photograph():
  return np.asarray(Image.fromarray(load_sample_image("flower.jpg")).resize((40, 30)))


def to_float(image):
  return jnp.asarray(np.asarray(image), jnp.float32) / 255


def per_pixel(function, image):
  return np.array([[function(*map(float, pixel)) for pixel in row] for row in np.asarray(image)])


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(("adjust", "enhance", "levels"), [
    (p.adjust_brightness_multiplicative, ImageEnhance.Brightness, 1),
    (p.adjust_saturation_grey, ImageEnhance.Color, 2),
    (p.adjust_contrast_grey, ImageEnhance.Contrast, 2),
], ids=["brightness", "saturation", "contrast"])
def test_torchvision_meanings_agree_with_pillow(photograph, adjust, enhance, levels, factor):
  expected = to_float(enhance(Image.fromarray(photograph)).enhance(factor))
  actual = adjust(to_float(photograph), factor)
  # Pillow rounds the grey image, its mean and the result to integers.
  np.testing.assert_allclose(actual, expected, atol=levels * LEVEL)


def test_greyscale_agrees_with_pillow(photograph):
  expected = to_float(Image.fromarray(photograph).convert("L"))
  grey = p.to_greyscale(to_float(photograph))
  for channel in range(3):
    np.testing.assert_allclose(grey[..., channel], expected, atol=LEVEL)


def test_solarise_agrees_with_pillow(photograph):
  expected = to_float(ImageOps.solarize(Image.fromarray(photograph), 128))
  np.testing.assert_allclose(p.solarise(to_float(photograph), 128 / 255), expected, atol=1e-6)


def test_solarise_inverts_what_is_not_below_the_threshold():
  solarised = p.solarise(jnp.array([0.5, 0.499, 0.9]))
  np.testing.assert_allclose(solarised, [0.5, 0.499, 0.1], atol=1e-7)


@pytest.mark.parametrize("delta", [-0.4, 0.0, 0.4])
def test_additive_brightness_adds_and_clips(photograph, delta):
  image = to_float(photograph)
  expected = np.clip(np.asarray(image) + np.float32(delta), 0, 1)
  np.testing.assert_allclose(p.adjust_brightness_additive(image, delta), expected, atol=1e-7)


@pytest.mark.parametrize("factor", FACTORS)
def test_tf_contrast_scales_around_each_channels_mean(photograph, factor):
  image = np.asarray(to_float(photograph), np.float64)
  mean = image.mean((0, 1))
  expected = np.clip((image - mean) * factor + mean, 0, 1)
  actual = p.adjust_contrast_per_channel(to_float(photograph), factor)
  np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("factor", FACTORS)
def test_tf_saturation_scales_the_saturation_of_hsv(photograph, factor):
  def reference(red, green, blue):
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    return colorsys.hsv_to_rgb(hue, min(1, saturation * factor), value)

  image = to_float(photograph)
  np.testing.assert_allclose(
      p.adjust_saturation_hsv(image, factor), per_pixel(reference, image), atol=3e-6)


@pytest.mark.parametrize("turns", [-0.2, 0.1, 0.5])
def test_hue_turns_the_hue_of_hsv(photograph, turns):
  def reference(red, green, blue):
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    return colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)

  image = to_float(photograph)
  np.testing.assert_allclose(p.adjust_hue(image, turns), per_pixel(reference, image), atol=3e-6)


def test_an_overshoot_of_the_resize_is_cut_off_by_every_adjustment():
  image = jnp.array([[[-0.2, 0.4, 1.3], [1.2, 1.2, 1.2], [-0.1, -0.1, -0.1]]])
  for adjust in (p.adjust_brightness_additive, p.adjust_hue, p.adjust_saturation_hsv,
                 p.adjust_saturation_grey, p.adjust_contrast_grey, p.adjust_contrast_per_channel,
                 p.adjust_brightness_multiplicative):
    adjusted = adjust(image, 0.9)
    assert jnp.all((adjusted >= 0) & (adjusted <= 1)), adjust.__name__


def test_normalise_subtracts_the_mean_and_divides_by_the_deviation():
  image = jnp.array([[[0.5, 0.5, 0.5]]])
  np.testing.assert_allclose(
      p.normalise(image, (0.4, 0.5, 0.6), (0.1, 0.2, 0.5)), [[[1, 0, -0.2]]], atol=1e-6)


RANDOM = {
    p.random_brightness_additive: (p.adjust_brightness_additive, p.draw_delta),
    p.random_brightness_multiplicative: (p.adjust_brightness_multiplicative, p.draw_factor),
    p.random_contrast_per_channel: (p.adjust_contrast_per_channel, p.draw_factor),
    p.random_contrast_grey: (p.adjust_contrast_grey, p.draw_factor),
    p.random_saturation_hsv: (p.adjust_saturation_hsv, p.draw_factor),
    p.random_saturation_grey: (p.adjust_saturation_grey, p.draw_factor),
    p.random_hue: (p.adjust_hue, p.draw_delta),
}


@pytest.mark.parametrize("random", RANDOM, ids=lambda f: f.__name__)
def test_random_under_vmap_and_jit_is_adjust_by_each_images_draw(random):
  adjust, draw = RANDOM[random]
  images = jax.random.uniform(jax.random.key(0), (3, 6, 5, 3))
  keys = jax.random.split(jax.random.key(1), 3)
  actual = jax.jit(jax.vmap(lambda key, image: random(key, image, strength=0.4)))(keys, images)
  for i in range(3):
    expected = adjust(images[i], draw(keys[i], 0.4))
    np.testing.assert_allclose(actual[i], expected, atol=1e-6)


def test_draws_fill_their_interval_evenly():
  keys = jax.random.split(jax.random.key(2), 4000)
  for draw, strength, low, high in (
      (p.draw_delta, 0.3, -0.3, 0.3), (p.draw_factor, 0.4, 0.6, 1.4),
      (p.draw_factor, 1.5, 0.0, 2.5)):
    drawn = np.asarray(jax.vmap(lambda key, d=draw, s=strength: d(key, s))(keys))
    counts, _ = np.histogram(drawn, bins=10, range=(low, high))
    assert counts.sum() == 4000
    assert abs(counts - 400).max() < 100  # five standard deviations
