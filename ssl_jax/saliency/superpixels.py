"""What the estimators on superpixels share: the segments, their graph and their distances.

The constants are those of the code that accompanies Zhu et al., "Saliency Optimization from Robust
Background Detection", CVPR 2014. Lengths in pixels hold for images of about 300 pixels, on which
that code was tuned; they are scaled with the image, so that a smaller one has as many superpixels
and an estimate at 100 pixels is a cheaper estimate of the same thing.
"""

from typing import NamedTuple

import numpy as np
from skimage.color import rgb2lab
from skimage.segmentation import slic

REFERENCE = 300  # pixels of the longer side for which lengths are given
COMPACTNESS = 20  # SLIC_Split.m
AREA = 600  # pixels of a superpixel: GetRBD.m
BORDER = 8  # pixels of the band whose superpixels are "on the border": GetRBD.m
_LEAST_AREA = 9  # below it SLIC has nothing left to average


class Superpixels(NamedTuple):
  """An image cut into S regions.

  Attributes:
    labels: i64[H,W], from 0 to S - 1.
    lab: f64[S,3], the mean colour in CIE L*a*b* (sRGB, D65; L from 0 to 100).
    position: f64[S,2], the mean row and column over the image's height and width.
    adjacent: bool[S,S], symmetric: the two share an edge of a pixel; a superpixel is adjacent to
      itself.
    border: bool[S], on the border of the image.
  """

  labels: np.ndarray
  lab: np.ndarray
  position: np.ndarray
  adjacent: np.ndarray
  border: np.ndarray


class Scales(NamedTuple):
  """What the image says of its own contrasts (`EstimateDynamicParas.m`).

  Attributes:
    clip: Colour differences below it are noise.
    geodesic: Sigma of geodesic distances.
    neighbour: Sigma of the colour difference of neighbours.
  """

  clip: float
  geodesic: float
  neighbour: float


def scale(image: np.ndarray) -> float:
  """How much longer the image is than the one that lengths are given for."""
  return max(image.shape[:2]) / REFERENCE


def area_count(image: np.ndarray) -> int:
  """Superpixels of `AREA` pixels."""
  return round(image.shape[0] * image.shape[1] / (AREA * scale(image) ** 2))


def segment(image: np.ndarray, count: int, border: float = BORDER) -> Superpixels:
  """Cuts an image u8[H,W,3] into about `count` superpixels.

  Args:
    image: u8[H,W,3].
    count: How many superpixels to aim at; fewer are made of an image too small for them.
    border: The width of the border in pixels of an image of `REFERENCE`; it is a pixel at least.
  """
  height, width = image.shape[:2]
  count = max(1, min(count, height * width // _LEAST_AREA))
  raw = slic(image, n_segments=count, compactness=COMPACTNESS, start_label=0)
  labels = np.unique(raw, return_inverse=True)[1].reshape(height, width)  # no number is left out
  sizes = np.bincount(labels.ravel())

  def mean(values):
    return np.bincount(labels.ravel(), np.ravel(values), len(sizes)) / sizes

  rgb = np.stack([mean(image[..., c]) for c in range(3)], axis=-1)
  rows, columns = np.mgrid[:height, :width]
  band = max(1, round(border * scale(image)))
  rim = np.ones((height, width), bool)
  rim[band:height - band, band:width - band] = False
  on_border = np.zeros(len(sizes), bool)
  on_border[labels[rim]] = True
  return Superpixels(
      labels=labels,
      lab=rgb2lab(rgb[None] / 255)[0],
      position=np.stack([mean(rows) / height, mean(columns) / width], axis=-1),
      adjacent=touching(labels, [(0, 1), (1, 0)]),
      border=on_border)


def touching(labels: np.ndarray, steps: list[tuple[int, int]]) -> np.ndarray:
  """bool[S,S]: whether a step (rows, columns), either way, leads from one superpixel to another."""
  count = labels.max() + 1
  touch = np.eye(count, dtype=bool)
  for down, right in steps:
    here = labels[:labels.shape[0] - down, max(0, -right):labels.shape[1] - max(0, right)]
    there = labels[down:, max(0, right):labels.shape[1] + min(0, right)]
    touch[here, there] = True
  return touch | touch.T


def pairwise(features: np.ndarray) -> np.ndarray:
  """The Euclidean distances of rows: f64[S,D] -> f64[S,S], exactly 0 on the diagonal."""
  return np.sqrt(((features[:, None] - features[None]) ** 2).sum(-1))


def two_rings(adjacent: np.ndarray) -> np.ndarray:
  """bool[S,S]: neighbours, and neighbours of neighbours."""
  steps = adjacent.astype(np.float32)
  return steps @ steps > 0


def gaussian(distance: np.ndarray, sigma: float) -> np.ndarray:
  """exp(-d^2 / 2 sigma^2), and 0 where d > 3 sigma (`Dist2WeightMatrix.m`)."""
  near = np.exp(-0.5 * (distance / max(sigma, 1e-9)) ** 2)
  return np.where(distance > 3 * sigma, 0, near)


def scales(adjacent: np.ndarray, colour: np.ndarray) -> Scales:
  """Adapts the clip and the two sigmas to an image (`GetMeanMinAndMeanTop.m`).

  Args:
    adjacent: bool[S,S].
    colour: f64[S,S], distances of colours.
  """
  others = ~np.eye(len(adjacent), dtype=bool)
  if not (adjacent & others).any():  # a single superpixel
    return Scales(0.0, 5.0, 0.0)

  def mean_least(linked):
    return np.where(linked & others, colour, np.inf).min(axis=1).mean()

  least = mean_least(adjacent)
  contrasts = np.sort(colour[np.tril(adjacent, -1)])[::-1]
  top = contrasts[:max(1, round(0.01 * len(contrasts)))].mean()
  return Scales(clip=mean_least(two_rings(adjacent)),
                geodesic=max(5.0, min(10.0, 3 * least, top / 10)),
                neighbour=min(3 * least, 0.2 * top, 20.0))


def link_border(adjacent: np.ndarray, border: np.ndarray) -> np.ndarray:
  """The graph in which all superpixels on the border are adjacent to each other."""
  return adjacent | np.logical_and.outer(border, border)


def unit(values: np.ndarray) -> np.ndarray:
  """Stretches values to [0, 1]; zeros where they are all alike."""
  least, most = values.min(), values.max()
  # What rounding makes of a flat image is no contrast.
  if most - least <= 1e-9 * max(abs(least), abs(most)):
    return np.zeros_like(values, dtype=np.float64)
  return (values - least) / (most - least)
