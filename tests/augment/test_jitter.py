import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.augment import jitter as j

STRENGTHS = dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)


def in_hsv(change):
  def apply(image):
    return np.array([[colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in row]
                     for row in image.tolist()])
  return apply


def grey(image):
  return image @ np.array([0.2989, 0.5870, 0.1140])


def naive(family, image, brightness, contrast, saturation, hue, order):
  """The four operations one after another on one image, in float64."""
  def around_grey_mean(x):
    return contrast * x + (1 - contrast) * grey(x).mean()

  def around_channel_means(x):
    return contrast * (x - x.mean((0, 1))) + x.mean((0, 1))

  def towards_grey(x):
    return saturation * x + (1 - saturation) * grey(x)[..., None]

  scale_saturation = in_hsv(lambda h, s, v: (h, min(1, s * saturation), v))
  operations = {
      "byol": (lambda x: x + brightness, around_channel_means, scale_saturation),
      "simclr": (lambda x: x * brightness, around_channel_means, scale_saturation),
      "torchvision": (lambda x: x * brightness, around_grey_mean, towards_grey),
  }[family] + (in_hsv(lambda h, s, v: ((h + hue) % 1, s, v)),)
  image = np.asarray(image, np.float64)
  for i in order:
    image = np.clip(operations[i](image), 0, 1)
  return image


@pytest.mark.parametrize(("family", "adjust", "draw"), [
    ("byol", j.adjust_jitter_byol, j.draw_additive),
    ("simclr", j.adjust_jitter_simclr, j.draw_multiplicative),
    ("torchvision", j.adjust_jitter_torchvision, j.draw_multiplicative),
])
def test_jitter_in_every_order_is_the_four_operations_one_after_another(family, adjust, draw):
  images = jax.random.uniform(jax.random.key(0), (24, 7, 5, 3))
  draws = jax.vmap(lambda key: draw(key, **STRENGTHS))(jax.random.split(jax.random.key(1), 24))
  draws = draws._replace(order=jnp.asarray(j.ORDERS))
  jittered = jax.jit(jax.vmap(adjust))(images, draws)
  for i in range(24):
    one = [np.asarray(field[i]) for field in draws]
    np.testing.assert_allclose(jittered[i], naive(family, images[i], *one), atol=1e-5)


def test_jitter_of_overshooting_pixels_clips_after_the_first_operation():
  image = jnp.array([[[1.2, 0.5, -0.1], [0.3, 1.1, 0.2]]])
  draw = j.Jitter(jnp.float32(0.5), jnp.float32(1.2), jnp.float32(1), jnp.float32(0),
                  jnp.array([j.BRIGHTNESS, j.CONTRAST, j.SATURATION, j.HUE]))
  expected = naive("simclr", np.clip(image * 0.5, 0, 1), 1, 1.2, 1, 0, draw.order)
  np.testing.assert_allclose(j.adjust_jitter_simclr(image, draw), expected, atol=1e-6)


@pytest.mark.parametrize(("random", "adjust", "draw"), [
    (j.random_jitter_byol, j.adjust_jitter_byol, j.draw_additive),
    (j.random_jitter_simclr, j.adjust_jitter_simclr, j.draw_multiplicative),
    (j.random_jitter_torchvision, j.adjust_jitter_torchvision, j.draw_multiplicative),
])
def test_random_jitter_is_adjust_by_the_draw_of_its_key(random, adjust, draw):
  image, key = jax.random.uniform(jax.random.key(2), (6, 6, 3)), jax.random.key(3)
  expected = adjust(image, draw(key, **STRENGTHS))
  np.testing.assert_allclose(random(key, image, **STRENGTHS), expected, atol=1e-6)


def test_draws_have_the_families_ranges_and_all_orders_alike():
  keys = jax.random.split(jax.random.key(4), 4800)
  strengths = dict(brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1)
  added = jax.vmap(lambda key: j.draw_additive(key, **strengths))(keys)
  scaled = jax.vmap(lambda key: j.draw_multiplicative(key, **strengths))(keys)
  for drawn, low, high in (
      (added.brightness, -0.4, 0.4), (scaled.brightness, 0.6, 1.4), (scaled.contrast, 0, 2.5),
      (scaled.saturation, 0.8, 1.2), (scaled.hue, -0.1, 0.1)):
    counts, _ = np.histogram(drawn, bins=6, range=(low, high))
    assert counts.sum() == 4800
    assert abs(counts - 800).max() < 130  # five standard deviations
  code = np.asarray(scaled.order) @ [64, 16, 4, 1]
  seen, counts = np.unique(code, return_counts=True)
  assert len(seen) == 24
  assert abs(counts - 200).max() < 70


def test_parameters_do_not_follow_the_order_or_one_another():
  keys = jax.random.split(jax.random.key(5), 4000)
  drawn = jax.vmap(lambda key: j.draw_multiplicative(key, **STRENGTHS))(keys)
  columns = np.stack([*drawn[:4], *np.asarray(drawn.order)[:, :3].T])
  correlation = np.corrcoef(columns)
  correlation[4:, 4:] = 0  # places of one permutation exclude one another
  np.fill_diagonal(correlation, 0)
  assert abs(correlation).max() < 0.08
