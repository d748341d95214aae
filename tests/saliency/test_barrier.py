"""Minimum barrier saliency against one pixel at a time, exact distances and other libraries."""

import heapq

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import color, data

from ssl_jax.saliency import barrier, mbd


def scan_by_pixel(image, passes):
  """Algorithm 1 of the paper as it is written, for one channel."""
  value = image.astype(int)
  distance = np.full(image.shape, 100_000)
  distance[[0, -1]] = distance[:, [0, -1]] = 0
  highest, lowest = value.copy(), value.copy()
  for scan in range(passes):
    step = 1 if scan % 2 else -1
    for i in range(1, image.shape[0] - 1)[::-step]:
      for j in range(1, image.shape[1] - 1)[::-step]:
        for a, b in ((i, j + step), (i + step, j)):
          most = max(highest[a, b], value[i, j])
          least = min(lowest[a, b], value[i, j])
          if most - least < distance[i, j]:
            distance[i, j], highest[i, j], lowest[i, j] = most - least, most, least
  return distance


def exact_distance(image):
  """The minimum over all paths: for each floor, the lowest ceiling by Dijkstra."""
  height, width = image.shape
  value = image.astype(int)
  best = np.full(image.shape, 256)
  for floor in np.unique(value):
    ceiling = np.full(image.shape, 256)
    rim = [(i, j) for i in range(height) for j in range(width)
           if (i in (0, height - 1) or j in (0, width - 1)) and value[i, j] >= floor]
    heap = [(value[p], p) for p in rim]
    heapq.heapify(heap)
    while heap:
      most, (i, j) = heapq.heappop(heap)
      if most >= ceiling[i, j]:
        continue
      ceiling[i, j] = most
      for a, b in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
        if 0 <= a < height and 0 <= b < width and value[a, b] >= floor:
          heapq.heappush(heap, (max(most, value[a, b]), (a, b)))
    best = np.minimum(best, np.where(ceiling < 256, ceiling - floor, 256))
  return best


@pytest.mark.parametrize("shape", [(9, 13), (13, 9), (3, 3), (3, 8), (12, 12)])
def test_diagonals_at_once_are_pixels_one_by_one(shape):
  image = np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 2), np.uint8)
  for passes in (1, 2, 3):
    found = barrier.barrier_distance(image, passes)
    for channel in range(2):
      np.testing.assert_array_equal(found[..., channel],
                                    scan_by_pixel(image[..., channel], passes))


def test_the_golden_distances():
  image = np.array([[10, 12, 11, 13, 12, 10], [11, 80, 85, 90, 14, 12], [12, 82, 200, 95, 15, 11],
                    [10, 84, 88, 92, 60, 13], [12, 11, 13, 12, 14, 10]], np.uint8)
  found = barrier.barrier_distance(image[..., None])[..., 0]
  assert found[1:-1, 1:-1].tolist() == [[68, 73, 77, 2], [70, 186, 81, 3], [72, 75, 78, 46]]
  assert found.sum() == found[1:-1, 1:-1].sum()


def test_scans_never_undercut_the_exact_distance_and_come_near_on_a_photograph():
  photograph = np.asarray(Image.fromarray(data.cat()[..., 1]).resize((28, 20))) // 8 * 8
  exact = exact_distance(photograph)
  errors = [barrier.barrier_distance(photograph[..., None], passes)[..., 0] - exact
            for passes in (1, 2, 3, 9)]
  assert all(error.min() >= 0 for error in errors)
  means = [error.mean() for error in errors]
  assert sorted(means, reverse=True) == means and means[0] > 2 * means[2]
  assert np.corrcoef(exact.ravel(), (exact + errors[2]).ravel())[0, 1] > 0.9


def test_the_smallest_images_are_all_border():
  assert not barrier.barrier_distance(np.full((2, 5, 3), 9, np.uint8)).any()


def test_lab_in_bytes_is_lab():
  image = data.astronaut()[::5, ::5]
  lab = color.rgb2lab(image) * (2.55, 1, 1) + (0, 128, 128)
  assert np.abs(mbd.lab_bytes(image) - lab).max() < 0.51


def test_the_median_is_the_median():
  image = np.random.default_rng(0).integers(0, 256, (17, 12, 3), np.uint8)
  for radius in (0, 1, 2, 3):
    side = 2 * radius + 1
    np.testing.assert_array_equal(
        mbd.median(image, radius),
        ndimage.median_filter(image, (side, side, 1), mode="nearest"))


def test_colours_of_the_border_score_low_even_where_the_object_touches_it():
  image = np.full((40, 40, 3), (60, 90, 130), np.uint8)
  image[10:30, 25:] = (200, 60, 40)
  found = mbd.unlike_border(image)
  assert found[10:30, 25:].min() > 0.99 and found[:, :25].max() < 0.01


def test_smoothing_takes_specks_and_keeps_contours():
  block = np.zeros((40, 40))
  block[10:30, 12:33] = 1
  specked = block.copy()
  specked[[3, 20], [3, 20]] = 1, 0
  np.testing.assert_array_equal(mbd.smooth(specked, 5), block)


def test_contrast_is_raised_around_the_middle_of_the_two_means():
  values = np.array([[0.0, 0.2, 0.8, 1.0]])
  sigmoid = 1 / (1 + np.exp(-10 * (values - 0.5)))
  np.testing.assert_allclose(mbd.raise_contrast(values),
                             (sigmoid - sigmoid[0, 0]) / np.ptp(sigmoid))
  assert not mbd.raise_contrast(np.full((2, 2), 0.7)).any()
