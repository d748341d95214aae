import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.ndimage import correlate1d
from sklearn.datasets import load_sample_image

from ssl_jax.augment import blur

FORMS = {"constant": (blur.adjust_blur, blur.by_shifts, blur.by_matrices),
         "nearest": (blur.adjust_blur_extended, blur.extended_by_shifts,
                     blur.extended_by_matrices)}


def test_taps_of_a_known_sigma():
  weights = blur.taps(1.0, 11)
  assert weights.shape == (23,)
  np.testing.assert_allclose(weights[11], 0.39894228, atol=1e-7)
  np.testing.assert_allclose(weights[jnp.array([10, 12])], 0.24197072, atol=1e-7)
  np.testing.assert_allclose(weights.sum(), 1, atol=1e-6)


@pytest.mark.parametrize(("size", "radius"), [(224, 11), (96, 4), (32, 1), (28, 1), (16, 0)])
def test_the_kernel_is_a_tenth_of_the_view(size, radius):
  assert blur.radius_of(size) == radius


@pytest.mark.parametrize("border", FORMS)
@pytest.mark.parametrize("radius", [0, 1, 4, 11])
def test_every_form_is_the_separable_convolution(border, radius):
  image = np.random.default_rng(0).uniform(size=(14, 9, 3)).astype(np.float32)
  sigma = 1.3
  weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
  weights /= weights.sum()
  expected = image.astype(np.float64)
  for axis in (1, 0):
    expected = correlate1d(expected, weights, axis=axis, mode=border, cval=0.0)
  chosen, shifts, matrices = FORMS[border]
  np.testing.assert_allclose(chosen(image, sigma, radius=radius), expected, atol=1e-6)
  np.testing.assert_allclose(shifts(image, blur.taps(sigma, radius)), expected, atol=1e-6)
  np.testing.assert_allclose(matrices(image, blur.taps(sigma, radius)), expected, atol=1e-6)


def test_each_image_has_its_own_sigma_under_vmap_and_jit():
  images = jax.random.uniform(jax.random.key(0), (3, 24, 24, 3))
  sigmas = jnp.array([0.1, 0.7, 2.0])
  together = jax.jit(jax.vmap(lambda x, s: blur.adjust_blur(x, s, radius=2)))(images, sigmas)
  for i in range(3):
    alone = blur.adjust_blur(images[i], sigmas[i], radius=2)
    np.testing.assert_allclose(together[i], alone, atol=1e-6)


def test_the_smallest_sigma_leaves_the_image_as_it_is():
  image = jax.random.uniform(jax.random.key(1), (24, 24, 3))
  np.testing.assert_allclose(blur.adjust_blur(image, 0.1, radius=11), image, atol=1e-6)


def test_zeros_beyond_the_border_darken_it_and_a_repeated_border_does_not():
  white = jnp.ones((30, 30, 3))
  dark = blur.adjust_blur(white, 2.0, radius=6)
  np.testing.assert_allclose(dark[15, 15], 1, atol=1e-6)
  assert dark[0, 0, 0] < 0.4
  np.testing.assert_allclose(blur.adjust_blur_extended(white, 2.0, radius=6), white, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_the_extended_blur_is_close_to_pillows(sigma):
  photograph = Image.fromarray(load_sample_image("china.jpg")).resize((96, 64))
  expected = np.asarray(photograph.filter(ImageFilter.GaussianBlur(sigma)), np.float32) / 255
  image = jnp.asarray(np.asarray(photograph), jnp.float32) / 255
  actual = blur.adjust_blur_extended(image, sigma, radius=6)
  assert abs(actual - expected).mean() < 0.006  # three box blurs are not quite a Gaussian
  assert abs(actual - expected).mean() < 0.2 * abs(image - expected).mean()


@pytest.mark.parametrize(("random", "radius"), [
    (blur.random_blur, 2), (blur.random_blur_extended, 6)])
def test_random_blur_draws_sigma_evenly_from_its_range(random, radius):
  # The blur of one bright pixel tells sigma by the ratio of two taps, and the radius by its width.
  point = jnp.zeros((41, 41, 3)).at[20, 20].set(1)
  keys = jax.random.split(jax.random.key(3), 400)
  row = np.asarray(jax.jit(jax.vmap(lambda key: random(key, point)[20, :, 0]))(keys), np.float64)
  sigma = np.sqrt(-0.5 / np.log(row[:, 21] / row[:, 20]))
  counts, _ = np.histogram(sigma, bins=4, range=(0.1, 2.0))
  assert counts.sum() == 400
  assert abs(counts - 100).max() < 43  # five standard deviations
  widest = row[sigma.argmax()]
  assert widest[20 - radius] > 0
  assert widest[20 - radius - 1] == 0
