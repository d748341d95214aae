import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from ssl_jax.augment import resample as r

PILLOW = {r.bilinear_antialias: Image.Resampling.BILINEAR,
          r.bicubic_antialias: Image.Resampling.BICUBIC}
BOXES = [(3, 5, 20, 24), (0, 0, 40, 30), (30, 2, 10, 7), (8, 20, 1, 10)]  # top, left, height, width


def box(top, left, height, width):
  return r.Box(*map(jnp.float32, (top, left, height, width)))


def extent(image):
  return jnp.array(image.shape[:2])


def stored(height, width, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def keys_cubic(x):
  x = abs(x)
  if x < 1:
    return 1.5 * x**3 - 2.5 * x**2 + 1
  return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def tent(x):
  return max(0.0, 1 - abs(x))


def naive_line(line, size, kernel):
  """Resizes along the first axis without antialias, tap by tap; taps outside are left out."""
  out = []
  for i in range(size):
    place = (i + 0.5) * len(line) / size - 0.5
    taps = {k: kernel(place - k) for k in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3)
            if 0 <= k < len(line)}
    out.append(sum(w * line[k] for k, w in taps.items()) / sum(taps.values()))
  return np.array(out)


@pytest.mark.parametrize("where", BOXES, ids=str)
@pytest.mark.parametrize("method", PILLOW, ids=lambda f: f.__name__)
def test_antialiased_crops_are_pillows(where, method):
  image = stored(40, 30)
  top, left, height, width = where
  actual = r.crop_and_resize(image, box(*where), 12, extent(image), method)
  for channel in range(3):
    plane = Image.fromarray(image[..., channel].astype(np.float32))  # mode F: nothing is rounded
    plane = plane.crop((left, top, left + width, top + height)).resize((12, 12), PILLOW[method])
    np.testing.assert_allclose(actual[..., channel], np.asarray(plane) / 255, atol=2e-6)


@pytest.mark.parametrize("where", BOXES, ids=str)
@pytest.mark.parametrize(("method", "kernel"), [(r.bilinear, tent), (r.bicubic, keys_cubic)],
                         ids=["bilinear", "bicubic"])
def test_plain_crops_are_interpolated_tap_by_tap(where, method, kernel):
  image = stored(40, 30)
  top, left, height, width = where
  cut = image[top:top + height, left:left + width] / 255
  expected = naive_line(naive_line(cut, 12, kernel).swapaxes(0, 1), 12, kernel).swapaxes(0, 1)
  actual = r.crop_and_resize(image, box(*where), 12, extent(image), method)
  np.testing.assert_allclose(actual, expected, atol=5e-6)


@pytest.mark.parametrize("method", [r.bilinear, r.bilinear_antialias, r.bicubic,
                                    r.bicubic_antialias], ids=lambda f: f.__name__)
def test_a_box_of_the_views_size_is_plain_slicing(method):
  image = stored(20, 20)
  actual = r.crop_and_resize(image, box(4, 6, 12, 12), 12, extent(image), method)
  np.testing.assert_allclose(actual, image[4:16, 6:18] / 255, atol=1e-6)


def test_each_image_has_its_own_box_under_vmap_and_jit():
  images = np.stack([stored(16, 16, seed) for seed in range(3)])
  boxes = r.Box(jnp.array([0.0, 3, 8]), jnp.array([2.0, 0, 8]), jnp.array([16.0, 7, 8]),
                jnp.array([10.0, 16, 5]))
  together = jax.jit(jax.vmap(
      lambda x, b: r.crop_and_resize(x, b, 9, jnp.array([16, 16]), r.bicubic)))(images, boxes)
  for i in range(3):
    alone = r.crop_and_resize(
        images[i], r.Box(*(side[i] for side in boxes)), 9, jnp.array([16, 16]), r.bicubic)
    np.testing.assert_allclose(together[i], alone, atol=1e-6)


def test_float_images_are_taken_as_they_are():
  image = stored(16, 16)
  where = box(2, 3, 10, 8)
  from_bytes = r.crop_and_resize(image, where, 6, extent(image), r.bilinear)
  from_floats = r.crop_and_resize(
      image.astype(np.float32) / 255, where, 6, extent(image), r.bilinear)
  np.testing.assert_allclose(from_bytes, from_floats, atol=1e-6)


def test_pixels_outside_the_box_matter_only_when_the_resize_comes_first():
  image = stored(30, 30)
  other = stored(30, 30, seed=1)
  other[10:20, 5:25] = image[10:20, 5:25]
  where = box(10, 5, 10, 20)

  def change(crop):
    views = [crop(x, where, 4, extent(image), r.bicubic_antialias) for x in (image, other)]
    return abs(views[0] - views[1]).max()

  assert change(r.crop_and_resize) < 1e-6
  assert change(r.resize_and_crop) > 0.01


@pytest.mark.parametrize("method", [r.bilinear_antialias, r.bicubic], ids=lambda f: f.__name__)
def test_a_crop_of_a_squashed_photograph_is_close_to_one_of_the_original(method):
  original = load_sample_image("china.jpg")  # 427 x 640
  # Smooth, as what a sharper original loses by the canvas is not the crop's doing.
  smooth = np.asarray(Image.fromarray(original).resize((160, 107)).resize((640, 427)))
  canvas = np.asarray(Image.fromarray(smooth).resize((320, 320)))
  where = box(40, 130, 300, 280)
  direct = r.crop_and_resize(smooth, where, 64, extent(smooth), method)
  squashed = r.crop_and_resize(canvas, where, 64, extent(smooth), method)
  displaced = r.crop_and_resize(smooth, box(40, 134, 300, 280), 64, extent(smooth), method)
  assert abs(squashed - direct).mean() < 0.01
  assert abs(squashed - direct).mean() < 0.5 * abs(displaced - direct).mean()


def test_a_box_smaller_than_a_pixel_of_the_canvas_is_that_pixel():
  canvas = stored(8, 8)  # of an original of 800 x 800
  view = r.crop_and_resize(
      canvas, box(310, 530, 20, 20), 4, jnp.array([800, 800]), r.bicubic_antialias)
  np.testing.assert_allclose(view, np.broadcast_to(canvas[3, 5] / 255, (4, 4, 3)), atol=1e-6)


@pytest.mark.parametrize("method", [r.bilinear, r.bilinear_antialias, r.bicubic,
                                    r.bicubic_antialias], ids=lambda f: f.__name__)
def test_an_even_image_stays_even(method):
  image = np.full((37, 37, 3), 200, np.uint8)
  for crop in (r.crop_and_resize, r.resize_and_crop):
    view = crop(image, box(3.5, 1.25, 30.1, 33), 50, extent(image), method)
    np.testing.assert_allclose(view, 200 / 255, atol=1e-6)
