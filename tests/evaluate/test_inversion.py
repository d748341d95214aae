"""Inversion: what an encoder keeps comes back, what it drops does not; distances by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from tiny import QUICK

from ssl_jax.evaluate.inversion import channel_errors, invert, perceptual_distance
from ssl_jax.models.hourglass import Hourglass

MIX = jnp.array([[0.6, 0.3, 0.1], [-0.4, 0.5, 0.2], [0.2, -0.3, 0.7]])


def colours(images):
  """Invertible and linear: the channels mixed."""
  return images @ MIX * 3


def brightness(images):
  """Linear, but red, green and blue cannot be told apart."""
  return images.mean(-1, keepdims=True) * 3


def picture():
  y, x = np.mgrid[:16, :16] / 15
  return np.stack([0.2 + 0.6 * x, 0.8 - 0.5 * y, np.where(x > 0.5, 0.7, 0.3)], -1).astype(
      np.float32)


def test_an_invertible_encoders_image_is_found_and_a_lossy_ones_is_not():
  image, key = picture(), jax.random.key(0)
  settings = dict(steps=200, learning_rate=1e-2, channels=(16,), skip=4)
  found, lossy = (
      invert.lower(key, encode, image, **settings).compile(compiler_options=QUICK)(key, image)
      for encode in (colours, brightness))
  for result in (found, lossy):
    assert result.image.shape == image.shape and result.losses.shape == (200,)
    assert result.losses[-1] < result.losses[0] / 50
  error, worse = (float(channel_errors(image, r.image).mean()) for r in (found, lossy))
  blank = float(channel_errors(image, np.full_like(image, 0.5)).mean())
  assert error < 0.02 * blank and worse > 20 * error


def test_channel_errors_are_in_squares_of_bytes():
  image = np.zeros((2, 4, 4, 3), np.float32)
  other = image + np.float32([0.1, 0.0, 1.0])
  np.testing.assert_allclose(channel_errors(image, other), [[25.5**2, 0, 255**2]] * 2, rtol=1e-5)


def test_the_perceptual_distance_is_the_formula_and_forgets_the_scale_of_a_layer():
  x, y = jax.random.uniform(jax.random.key(0), (2, 3, 4, 4, 3))
  layers = lambda images: {"a": images, "b": 9 * images[:, ::2, ::2] @ MIX}
  want = np.zeros(3)
  for a, b in zip(layers(np.asarray(x)).values(), layers(np.asarray(y)).values()):
    a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (np.asarray(a), np.asarray(b)))
    want += np.square(a - b).sum(-1).mean((1, 2))
  np.testing.assert_allclose(perceptual_distance(layers, x, y), want, rtol=1e-4)
  np.testing.assert_allclose(perceptual_distance(layers, x, x), 0, atol=1e-6)


def test_the_hourglass_keeps_odd_sizes_and_its_images_do_not_meet():
  def images(noise):
    both, params = model.init_with_output(jax.random.key(1), noise)
    return both, model.apply(params, noise.at[1].set(0))

  model = Hourglass((4, 8), skip=2)
  noise = jax.random.uniform(jax.random.key(0), (2, 13, 10, 5))
  both, first = jax.jit(images, compiler_options=QUICK)(noise)
  assert both.shape == (2, 13, 10, 3) and (both > 0).all() and (both < 1).all()
  np.testing.assert_allclose(first[0], both[0], atol=1e-5)
  assert np.abs(first[1] - both[1]).max() > 1e-3
