"""Finding an artificial frame around an image, which would pass for its background.

Two rules, each of the code that it comes with: a row or column near the border is part of a frame
if it is mostly edge.
"""

import numpy as np
from scipy import ndimage

from ssl_jax.saliency.superpixels import scale

_DENSITY = 0.6  # of the row's pixels are edges: both codes
_LUMA = (0.299, 0.587, 0.114)

Inside = tuple[slice, slice]


def without_frame(image: np.ndarray) -> Inside:
  """The part of an image u8[H,W,3] within its frame, as rows and columns.

  `removeframe.m` of Zhu et al. 2014: edges are where the squared Sobel gradient is above four times
  its mean, MATLAB's threshold, within 30 pixels of each side. If any side has a frame, those
  without are given the widest. (MATLAB's thinning is left out: noise divides a thinned edge over
  two rows, of which neither is then mostly edge.)
  """
  down, right = _gradients(image)
  strength = down ** 2 + right ** 2
  edges = strength > 4 * strength.mean()
  widths = _widths(edges, edges, round(30 * scale(image)))
  widest = max(widths)
  return _inside(image, [width or widest for width in widths])


def without_frame_strict(image: np.ndarray) -> Inside:
  """The same by the rule of `MBS.cpp`, Zhang et al., "Minimum Barrier Salient Object Detection".

  Edges are where the Sobel derivative across the border is the largest of 5 x 5 and at least
  0.4 x 255, within 20 pixels of each side. Two more pixels are cut; if two sides or more have a
  frame, all four are cut by the widest.
  """
  edges = []
  for gradient in _gradients(image):
    strength = np.minimum(np.abs(gradient), 255)
    edges.append((strength >= 0.4 * 255) & (strength == ndimage.maximum_filter(strength, 5)))
  widths = _widths(*edges, round(20 * scale(image)))
  if sum(width > 0 for width in widths) > 1:
    widths = [max(widths)] * 4
  return _inside(image, [width + 2 if width else 0 for width in widths])


def _gradients(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The Sobel derivatives of the grey level downwards and to the right, weights 1 2 1."""
  grey = image @ np.array(_LUMA, np.float32)
  return ndimage.sobel(grey, 0, mode="mirror"), ndimage.sobel(grey, 1, mode="mirror")


def _widths(across: np.ndarray, along: np.ndarray, band: int) -> list[int]:
  """The frame's width at the top, bottom, left and right.

  Args:
    across: bool[H,W], the edges that make a row part of a frame.
    along: bool[H,W], those that make a column part of one.
    band: How far from a side to look.
  """
  rows, columns = across.mean(1) > _DENSITY, along.mean(0) > _DENSITY
  found = []
  for dense in (rows[:band], rows[::-1][:band], columns[:band], columns[::-1][:band]):
    found.append(int(np.flatnonzero(dense)[-1]) + 1 if dense.any() else 0)
  return found


def _inside(image: np.ndarray, widths: list[int]) -> Inside:
  """What is left; all of the image if that is less than half of either side."""
  (height, width), (top, bottom, left, right) = image.shape[:2], widths
  if 2 * (top + bottom) > height or 2 * (left + right) > width:
    return slice(0, height), slice(0, width)
  return slice(top, height - bottom), slice(left, width - right)
