"""Corruptions against Pillow, scipy and scikit-image, and what all of them have in common."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import tiny
from PIL import Image
from skimage.color import hsv2rgb, rgb2hsv

from ssl_jax.augment import corruptions
from ssl_jax.augment.corruptions import CORRUPTIONS, SMALL_CORRUPTIONS, corrupt


@pytest.fixture(scope="module")
def photo():
  """A smooth picture with edges and colours, f32[48, 48, 3], on the 8-bit grid."""
  y, x = np.mgrid[:48, :48] / 48
  image = np.stack([0.2 + 0.6 * x, 0.5 + 0.4 * np.sin(6 * y), 0.8 - 0.5 * x * y], -1)
  image[10:30, 14:26] = (0.9, 0.15, 0.1)
  return (np.round(image * 255) / 255).astype(np.float32)


@pytest.fixture(scope="module")
def spoilt(photo):
  """{name: [5, 48, 48, 3]}: every corruption at every severity."""
  def each(key, image):
    return {name: jax.vmap(lambda s, f=f: f(key, image, s))(jnp.arange(1, 6))
            for name, f in SMALL_CORRUPTIONS.items()}
  return jax.jit(each, compiler_options=tiny.QUICK)(jax.random.key(0), photo)


def large(name, photo, severity):
  return np.asarray(CORRUPTIONS[name](jax.random.key(0), jnp.asarray(photo), jnp.int32(severity)))


def test_there_are_fifteen_with_both_papers_constants():
  assert list(CORRUPTIONS) == list(SMALL_CORRUPTIONS)
  assert len(CORRUPTIONS) == len(corruptions.ALEXNET_ERRORS) == 15


def test_a_corruption_is_an_image_and_the_last_severity_is_worse_than_the_first(photo, spoilt):
  for name, images in spoilt.items():
    images = np.asarray(images)
    assert images.shape == (5, 48, 48, 3) and np.isfinite(images).all(), name
    assert images.min() >= 0 and images.max() <= 1, name
    away = np.sqrt(np.mean((images - photo) ** 2, axis=(1, 2, 3)))
    assert away[0] > 0.002 and away[4] < 0.6, (name, away)
    # Elastic's severities change what is moved, not only how far.
    assert name == "elastic_transform" or away[4] > 1.15 * away[0], (name, away)


def test_noises_have_their_moments(photo, spoilt):
  flat = np.full((48, 48, 3), 0.5, np.float32)
  noise = large("gaussian_noise", flat, 1) - 0.5
  assert noise.std() == pytest.approx(0.08, rel=0.05) and abs(noise.mean()) < 0.004
  counts = large("shot_noise", flat, 1) * 60
  np.testing.assert_allclose(counts, np.round(counts), atol=1e-4)
  assert counts.var() == pytest.approx(counts.mean(), rel=0.1)
  changed = np.asarray(spoilt["impulse_noise"][4]) != photo
  assert changed.mean() == pytest.approx(0.07, abs=0.01)
  assert set(np.unique(np.asarray(spoilt["impulse_noise"][4])[changed])) == {0.0, 1.0}


def test_pixelate_is_pillows(photo):
  pillow = Image.fromarray(np.uint8(photo * 255 + 0.5))
  for severity, share in ((1, 0.6), (3, 0.4), (5, 0.25)):
    small = pillow.resize((int(48 * share),) * 2, Image.Resampling.BOX)
    want = np.asarray(small.resize((48, 48), Image.Resampling.BOX)) / 255
    np.testing.assert_allclose(large("pixelate", photo, severity), want, atol=1.01 / 255)


def test_jpeg_is_pillows_but_for_the_interpolation_of_chroma(photo):
  for severity, quality in ((1, 25), (5, 7)):
    block = io.BytesIO()
    Image.fromarray(np.uint8(photo * 255 + 0.5)).save(block, "JPEG", quality=quality)
    want = np.asarray(Image.open(block)) / 255
    got = large("jpeg_compression", photo, severity)
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs((got - want) @ luma).mean() < 1.5 / 255
    assert np.abs(got - want).mean() < 0.25 * np.abs(photo - want).mean() + 3 / 255


def test_brightness_and_contrast_are_the_formulas(photo):
  hsv = rgb2hsv(photo)
  hsv[..., 2] = np.clip(hsv[..., 2] + 0.3, 0, 1)
  np.testing.assert_allclose(large("brightness", photo, 3), hsv2rgb(hsv), atol=1e-5)
  mean = photo.mean(axis=(0, 1))
  np.testing.assert_allclose(large("contrast", photo, 4), (photo - mean) * 0.1 + mean, atol=1e-5)
  assert (large("brightness", np.zeros_like(photo), 1) == np.float32(0.1)).all()


def test_defocus_is_a_convolution_with_a_disk(photo):
  line = np.arange(-8, 9)
  disk = (line[:, None] ** 2 + line**2 <= 16).astype(float)
  soft = np.exp(-np.arange(-1, 2)**2 / (2 * 0.5**2))
  soft = np.outer(soft, soft) / soft.sum() ** 2
  kernel = scipy.ndimage.convolve(disk / disk.sum(), soft, mode="constant")
  want = np.stack([scipy.ndimage.convolve(photo[..., c].astype(float), kernel, mode="mirror")
                   for c in range(3)], -1)
  np.testing.assert_allclose(large("defocus_blur", photo, 2), want, atol=1e-5)


def test_motion_blur_smears_a_point_along_one_line(photo):
  point = np.zeros((48, 48, 3), np.float32)
  point[24, 24] = 1
  got = large("motion_blur", point, 1)[..., 0]
  assert got.sum() == pytest.approx(1, abs=1e-4)
  y, x = np.nonzero(got > 1e-6)
  spread = np.linalg.eigvalsh(np.cov(np.stack([y, x])))
  assert spread[0] < 0.3 < 2 < spread[1]


def test_stored_images_are_corrupted_each_by_its_key_and_rounded_down(photo):
  images = np.uint8(np.stack([photo, photo]) * 255 + 0.5)
  index, severity = jnp.array([4, 7]), jnp.int32(2)
  got = np.asarray(corrupt("gaussian_noise", jax.random.key(1), images, index, severity))
  assert got.dtype == np.uint8 and (got[0] != got[1]).any()
  want = SMALL_CORRUPTIONS["gaussian_noise"](
      jax.random.fold_in(jax.random.key(1), 7), images[1] / np.float32(255), jnp.int32(2))
  np.testing.assert_allclose(got[1], np.floor(np.asarray(want) * 255), atol=1)
