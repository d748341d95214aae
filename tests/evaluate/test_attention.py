"""Occlusion maps of linear encoders, whose answer is known, and the loop over patches."""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.evaluate.attention import attentive_diffusion, occlusion_map, relative_error


def kept(images):
  """Nothing is lost: every pixel is a feature."""
  return images.reshape(len(images), -1)


def corner(images):
  """Only the pixel at (6, 9) is looked at, beside a constant."""
  pixel = images[:, 6, 9, :1]
  return jnp.concatenate([pixel, jnp.ones_like(pixel)], axis=-1)


def test_the_map_is_the_mean_over_the_patches_that_cover_a_pixel():
  image = np.random.default_rng(0).uniform(size=(13, 15, 3)).astype(np.float32)
  k, fill = 4, np.float32([0.2, 0.5, 0.7])
  for stride in (1, 3):
    found = occlusion_map(kept, image, fill=fill, window=k, stride=stride, chunk=32)
    total, covers = np.zeros((2, 13, 15))
    for i in range(0, 13 - k + 1, stride):
      for j in range(0, 15 - k + 1, stride):
        covered = image.copy()
        covered[i:i + k, j:j + k] = fill
        error = np.sqrt(np.square(covered - image).sum() / np.square(image - image.mean()).sum())
        total[i:i + k, j:j + k] += error
        covers[i:i + k, j:j + k] += 1
    inside = slice(k - 1, 1 - k)
    np.testing.assert_allclose(found, total[inside, inside] / covers[inside, inside], rtol=1e-4)
    if stride == 1:
      assert (covers[inside, inside] == k * k).all()


def test_an_encoder_of_one_pixel_attends_to_its_surroundings_alone():
  image = np.random.default_rng(0).uniform(0.5, 0.9, size=(20, 20, 3)).astype(np.float32)
  k = 3
  found = np.asarray(occlusion_map(corner, image, fill=0.0, window=k))
  assert found.shape == (16, 16)
  # The pixel lies at (4, 7) of the map; a neighbour d away shares (k - d) of k patches a side.
  distance = np.abs(np.arange(16)[:, None] - np.array([4, 7])).T
  share = np.maximum(k - distance, 0) / k
  one = float(relative_error(jnp.array([image[6, 9, 0], 1.0]), jnp.array([0.0, 1.0])))
  np.testing.assert_allclose(found, one * share[0][:, None] * share[1], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(attentive_diffusion(found),
                             100 * (found > found.mean()).mean(), rtol=1e-5)


def test_the_error_forgets_the_scale_and_a_constant_feature_is_finite():
  f, g = jax.random.normal(jax.random.key(0), (2, 5, 8))
  np.testing.assert_allclose(relative_error(7 * f, 7 * g), relative_error(f, g), rtol=1e-5)
  assert relative_error(jnp.ones(4), jnp.zeros(4)) == 0


def test_diffusion_counts_what_is_above_the_mean():
  assert attentive_diffusion(jnp.ones((4, 4))) == 0
  half = jnp.stack([jnp.ones((2, 4)), jnp.zeros((2, 4))])
  np.testing.assert_allclose(attentive_diffusion(jnp.concatenate([half[0], half[1]])), 50)
  np.testing.assert_allclose(attentive_diffusion(jnp.zeros((5, 4)).at[2, 1].set(9.0)), 5)
