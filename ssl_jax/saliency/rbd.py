"""Robust background detection: what is well connected to the border is background.

Zhu et al., "Saliency Optimization from Robust Background Detection", CVPR 2014, and its code.
"""

import numpy as np
from scipy.sparse import csgraph
from skimage.filters import threshold_otsu

from ssl_jax.saliency import superpixels
from ssl_jax.saliency.frame import without_frame
from ssl_jax.saliency.gs import clipped_graph
from ssl_jax.saliency.superpixels import Superpixels, gaussian, unit

BACKGROUND = 5.0  # lambda, the weight of the background's term: SaliencyOptimization.m
SMOOTH = 0.1  # mu, the least affinity of neighbours: the same


def robust_background(image: np.ndarray) -> np.ndarray:
  """The map of an image u8[H,W,3]: f64[H,W] in [0, 1]."""
  inside = without_frame(image)
  regions = superpixels.segment(image[inside], superpixels.area_count(image[inside]))
  saliency = np.zeros(image.shape[:2])
  saliency[inside] = unit(saliency_of(regions))[regions.labels]
  return saliency


def saliency_of(regions: Superpixels) -> np.ndarray:
  """The saliency of each superpixel, f64[S]."""
  colour = superpixels.pairwise(regions.lab)
  scales = superpixels.scales(regions.adjacent, colour)
  distance = csgraph.dijkstra(clipped_graph(regions, colour))
  connectivity = border_connectivity(distance, regions.border, scales.geodesic)
  probability = 1 - np.exp(-0.5 * connectivity ** 2)  # of being background; sigma is 1
  background = np.where(connectivity > 3, 1000, probability)  # beyond doubt
  return optimize(background, foreground(regions, colour, probability),
                  affinity(regions, colour, scales.neighbour))


def border_connectivity(distance: np.ndarray, border: np.ndarray, sigma: float) -> np.ndarray:
  """The length on the border of a superpixel's soft region, over the root of its area: f64[S].

  Equations 3 to 6. The region of a superpixel is all that a geodesic path reaches at little cost.

  Args:
    distance: f64[S,S], geodesic.
    border: bool[S].
    sigma: How much cost is little.
  """
  region = gaussian(distance, sigma)
  return region[:, border].sum(axis=1) / np.sqrt(region.sum(axis=1))


def foreground(regions: Superpixels, colour: np.ndarray, background: np.ndarray) -> np.ndarray:
  """The contrast to what is probably background, near parts counting more: f64[S] in [0, 1].

  Equation 8; values below Otsu's threshold are 0.
  """
  near = gaussian(superpixels.pairwise(regions.position), 0.4)
  contrast = unit((colour * near) @ background)
  contrast[contrast < threshold_otsu(contrast)] = 0
  return contrast


def affinity(regions: Superpixels, colour: np.ndarray, sigma: float) -> np.ndarray:
  """How alike two superpixels shall come out: f64[S,S], symmetric (equation 10)."""
  linked = superpixels.two_rings(regions.adjacent) | np.logical_and.outer(
      regions.border, regions.border)
  return np.where(linked, gaussian(colour, sigma), 0) + SMOOTH * regions.adjacent


def optimize(background: np.ndarray, foreground: np.ndarray, affinity: np.ndarray) -> np.ndarray:
  """The s that minimises three squares, of which equation 9 is the sum.

  lambda sum_i b_i s_i^2 + sum_i f_i (s_i - 1)^2 + 1/2 sum_ij w_ij (s_i - s_j)^2

  Args:
    background: b, f64[S].
    foreground: f, f64[S].
    affinity: w, f64[S,S].
  """
  laplacian = np.diag(affinity.sum(axis=1)) - affinity
  return np.linalg.solve(laplacian + np.diag(BACKGROUND * background + foreground), foreground)
