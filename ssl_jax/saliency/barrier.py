"""The minimum barrier distance to the border of an image, by raster scans.

The barrier of a path is the largest value on it less the smallest. Zhang et al., "Minimum Barrier
Salient Object Detection at 80 FPS", ICCV 2015, algorithm 1.

A scan goes through the pixels one by one, each using the neighbours before it. Those lie on the
diagonal before its own, so all pixels of a diagonal can be done at once: the arrays here are
skewed, with the pixel of row i and column j at [i + j, ..., i].
"""

import numpy as np

_FAR = 256  # more than any barrier of 8-bit values
PASSES = 3  # forward, inverse, forward: section 3


def barrier_distance(image: np.ndarray, passes: int = PASSES) -> np.ndarray:
  """The distance of every pixel to the border, each channel by itself.

  It is a minimum over the paths that the scans follow, so never less than the exact distance.

  Args:
    image: u8[H,W,C].
    passes: Scans, every second one backwards.

  Returns:
    i16[H,W,C], from 0 to 255; 0 on the border, which is one pixel wide.
  """
  height, width = image.shape[:2]
  if min(height, width) < 3:
    return np.zeros(image.shape, np.int16)
  place = np.add.outer(np.arange(height), np.arange(width))
  row = np.arange(height)[:, None]

  def skewed(values):
    out = np.zeros((height + width - 1, *values.shape[2:], height), np.int16)
    out[place, ..., row] = values
    return out

  far = np.zeros(image.shape, np.int16)
  far[1:-1, 1:-1] = _FAR
  # The largest value and the smallest, negated: a path that is gone on with has the maximum of
  # either, and their sum is the barrier.
  value = skewed(np.stack([image, -image.astype(np.int16)], axis=2))
  path, distance = value.copy(), skewed(far)
  for scan in range(passes):
    _scan(value, path, distance, width, backwards=scan % 2 == 1)
  return distance[place, :, row]


def _scan(value: np.ndarray, path: np.ndarray, distance: np.ndarray, width: int,
          backwards: bool) -> None:
  """One pass over skewed arrays, which changes the last two.

  Args:
    value: i16[H+W-1,2,C,H], the extremes of single pixels.
    path: i16[H+W-1,2,C,H], those of the best path to each pixel so far.
    distance: i16[H+W-1,C,H], its barrier.
    width: W.
    backwards: From the last pixel to the first.
  """
  diagonals, _, _, height = value.shape
  order = range(2, diagonals - 2)
  step = 1 if backwards else -1
  for here in reversed(order) if backwards else order:
    first, last = max(1, here - width + 2), min(height - 2, here - 1) + 1
    # The neighbours of row i are left, i, and up, i - 1; or right, i, and down, i + 1.
    before, this = path[here + step], value[here, ..., first:last]
    best = np.maximum(before[..., first:last], this)
    other = np.maximum(before[..., first + step:last + step], this)
    barrier, another = best[0] + best[1], other[0] + other[1]
    np.copyto(best, other, where=another < barrier)  # of two as good, the one in the same row
    np.minimum(barrier, another, out=barrier)
    better = barrier < distance[here, :, first:last]
    np.copyto(distance[here, :, first:last], barrier, where=better)
    np.copyto(path[here, ..., first:last], best, where=better)
