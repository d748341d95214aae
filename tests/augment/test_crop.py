import functools
import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp, kstest
from sklearn.datasets import load_sample_image

from ssl_jax.augment import crop
from ssl_jax.augment.resample import Box, bicubic

COUNT = 3000
CLOSE = 0.055  # a Kolmogorov-Smirnov distance that equal laws pass once in 4000 times


@functools.cache
def sampler(sample, **limits):
  return jax.jit(jax.vmap(functools.partial(sample, **limits), (0, None)))


def boxes(sample, height, width, **limits):
  """COUNT boxes, as numpy arrays."""
  keys = jax.random.split(jax.random.key(0), COUNT)
  return Box(*map(np.asarray, sampler(sample, **limits)(keys, jnp.array([height, width]))))


def naive_torchvision(height, width, area, ratio):
  for _ in range(10):
    target = height * width * random.uniform(*area)
    r = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
    w, h = round(math.sqrt(target * r)), round(math.sqrt(target / r))
    if 0 < w <= width and 0 < h <= height:
      return random.randint(0, height - h), random.randint(0, width - w), h, w
  if width / height < ratio[0]:
    h, w = round(width / ratio[0]), width
  elif width / height > ratio[1]:
    h, w = height, round(height * ratio[1])
  else:
    h, w = height, width
  return (height - h) // 2, (width - w) // 2, h, w


def naive_byol(height, width, area, ratio):
  target = height * width * random.uniform(*area)
  r = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
  w = min(width, round(math.sqrt(target * r)))
  h = min(height, round(math.sqrt(target / r)))
  return random.randint(0, height - h), random.randint(0, width - w), h, w


def naive_tf(height, width, area, ratio):
  least, most = area[0] * height * width, area[1] * height * width
  for _ in range(100):
    r = random.uniform(*ratio)
    low, high = round(math.sqrt(least / r)), round(math.sqrt(most / r))
    while high > 0 and (round(high * r) > width or high > height):
      high -= 1
    h = random.randint(low, high) if low < high else high
    if h * round(h * r) < least:
      h += 1
    if h * round(h * r) > most:
      h -= 1
    w = round(h * r)
    if (0 < h <= height and 0 < w <= width and least <= h * w <= most
        and h * w >= 0.1 * height * width):
      return (random.randrange(height - h) if h < height else 0,
              random.randrange(width - w) if w < width else 0, h, w)
  return 0, 0, height, width


SAMPLERS = {"torchvision": (crop.sample_box_torchvision, naive_torchvision),
            "byol": (crop.sample_box_byol, naive_byol), "tf": (crop.sample_box_tf, naive_tf)}


@pytest.mark.parametrize(("height", "width"), [(300, 500), (97, 31), (28, 28)])
@pytest.mark.parametrize("name", SAMPLERS)
def test_boxes_are_distributed_as_those_of_the_naive_loop(name, height, width):
  sample, naive = SAMPLERS[name]
  random.seed(0)
  expected = np.array([naive(height, width, crop.AREA, crop.RATIO) for _ in range(COUNT)], float)
  actual = np.stack(boxes(sample, height, width), axis=1).astype(float)
  np.testing.assert_array_equal(actual, np.round(actual))
  for law in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2], lambda b: b[:, 0],
              lambda b: b[:, 1], lambda b: b[:, 0] + b[:, 2], lambda b: b[:, 1] + b[:, 3]):
    assert ks_2samp(law(actual), law(expected)).statistic < CLOSE


@pytest.mark.parametrize(("height", "width"), [(300, 500), (97, 31), (28, 28), (1, 1), (900, 7)])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_box_lies_in_the_image(name, height, width):
  b = boxes(SAMPLERS[name][0], height, width)
  assert min(b.top.min(), b.left.min()) >= 0
  assert min(b.height.min(), b.width.min()) >= 1
  assert (b.top + b.height).max() <= height
  assert (b.left + b.width).max() <= width


@pytest.mark.parametrize("name", ["torchvision", "byol"])
def test_area_is_uniform_and_ratio_log_uniform_where_all_boxes_fit(name):
  b = boxes(SAMPLERS[name][0], 1000, 1000, area=(0.1, 0.5))
  assert kstest(b.height * b.width / 1e6, "uniform", (0.1, 0.4)).statistic < 0.03
  span = math.log(4 / 3)
  assert kstest(np.log(b.width / b.height), "uniform", (-span, 2 * span)).statistic < 0.03


def test_simclrs_ratio_is_uniform_and_so_is_the_height_between_its_limits():
  b = boxes(crop.sample_box_tf, 2000, 2000, area=(0.1, 0.5))
  ratio = b.width / b.height
  assert kstest(ratio, "uniform", (0.75, 4 / 3 - 0.75)).statistic < 0.03
  lowest, tallest = np.sqrt(0.1 * 4e6 / ratio), np.sqrt(0.5 * 4e6 / ratio)
  assert kstest((b.height - lowest) / (tallest - lowest), "uniform").statistic < 0.03


def test_no_crop_of_simclr_is_smaller_than_a_tenth_of_the_image():
  b = boxes(crop.sample_box_tf, 224, 224)
  share = b.height * b.width / 224**2
  assert 0.1 <= share.min() < 0.11


@pytest.mark.parametrize(("height", "width", "expected"), [
    (40, 900, (0, 423, 40, 53)), (900, 30, (430, 0, 40, 30))])
def test_where_no_box_fits_torchvision_takes_the_centre_within_the_ratios(height, width, expected):
  b = boxes(crop.sample_box_torchvision, height, width, area=(0.5, 1.0))
  np.testing.assert_array_equal(np.stack(b, axis=1), np.tile(expected, (COUNT, 1)))


def test_where_no_box_fits_simclr_takes_the_whole_image():
  b = boxes(crop.sample_box_tf, 900, 10)
  np.testing.assert_array_equal(np.stack(b, axis=1), np.tile((0, 0, 900, 10), (COUNT, 1)))


@pytest.mark.parametrize(("shorter", "side"),
                         [(500, 437), (375, 328), (333, 291), (256, 224), (224, 196)])
def test_byols_evaluation_crop_truncates_its_side(shorter, side):
  b = crop.center_box_byol(jnp.array([shorter, shorter + 101]))
  assert (int(b.height), int(b.width)) == (side, side)
  assert int(b.top) == (shorter - side + 1) // 2
  assert int(b.left) == (shorter + 101 - side + 1) // 2


@pytest.mark.parametrize(("shorter", "side"), [(500, 438), (375, 328), (333, 291), (28, 24)])
def test_simclrs_evaluation_crop_rounds_its_side_half_to_even(shorter, side):
  assert int(crop.center_box_simclr(jnp.array([shorter + 3, shorter])).width) == side


def test_resize_and_center_crop_is_pillows():
  photograph = load_sample_image("flower.jpg")  # 427 x 640
  actual = crop.resize_and_center_crop(photograph, jnp.array([427, 640]), size=56, resize=64)
  for channel in range(3):
    plane = Image.fromarray(photograph[..., channel].astype(np.float32))
    plane = plane.resize((95, 64), Image.Resampling.BILINEAR)  # int(64 * 640 / 427) = 95
    expected = np.asarray(plane)[4:60, 20:76] / 255  # 19.5 rounds to the even 20
    np.testing.assert_allclose(actual[..., channel], expected, atol=1e-5)


def test_center_crop_cuts_before_it_resizes():
  photograph = load_sample_image("flower.jpg")
  size = jnp.array([427, 640])
  actual = crop.center_crop(photograph, size, size=373, box=crop.center_box_byol, method=bicubic)
  np.testing.assert_allclose(actual, photograph[27:400, 134:507] / 255, atol=1e-5)


@pytest.mark.parametrize(("op", "sample"), [
    (crop.random_resized_crop, crop.sample_box_torchvision),
    (crop.random_resized_crop_byol, crop.sample_box_byol),
    (crop.random_resized_crop_tf, crop.sample_box_tf)], ids=["torchvision", "byol", "tf"])
def test_a_random_crop_shows_the_box_of_its_key(op, sample):
  # Red counts rows and green columns, so that the view tells where it was cut out.
  rows, columns = np.mgrid[:64, :64]
  image = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)
  keys = jax.random.split(jax.random.key(1), 5)
  size = jnp.array([128, 64])  # squashed to half its height
  views = jax.jit(jax.vmap(lambda key: op(key, image, size, size=16)))(keys)
  for key, view in zip(keys, views):
    b = sample(key, size)
    middle = np.asarray(view[7:9, 7:9]).mean((0, 1)) * 255
    expected = [(b.top + b.height / 2) / 2 - 0.5, b.left + b.width / 2 - 0.5, 0]
    np.testing.assert_allclose(middle, expected, atol=0.05)


def test_flip_swaps_left_and_right_half_of_the_time():
  image = jnp.arange(24.0).reshape(2, 4, 3)
  np.testing.assert_array_equal(crop.flip(image), np.asarray(image)[:, ::-1])
  keys = jax.random.split(jax.random.key(2), 1000)
  views = np.asarray(jax.jit(jax.vmap(lambda key: crop.random_flip(key, image)))(keys))
  flipped = (views == np.asarray(image)[:, ::-1]).all((1, 2, 3))
  assert ((views == np.asarray(image)).all((1, 2, 3)) ^ flipped).all()
  assert 420 < flipped.sum() < 580
