"""Geodesic saliency: how far a superpixel is from the background, in colour, along a path.

Wei et al., "Geodesic Saliency Using Background Priors", ECCV 2012, as in `GeodesicSaliency.m` of
Zhu et al. 2014. Of the original's choices (a regular grid of patches instead of superpixels, soft
weights of the border instead of a selection) that code makes the ones here.
"""

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from ssl_jax.saliency import superpixels
from ssl_jax.saliency.frame import without_frame
from ssl_jax.saliency.superpixels import Superpixels, unit


def geodesic_saliency(image: np.ndarray) -> np.ndarray:
  """The map of an image u8[H,W,3]: f64[H,W] in [0, 1]."""
  inside = without_frame(image)
  regions = superpixels.segment(image[inside], superpixels.area_count(image[inside]))
  saliency = np.zeros(image.shape[:2])
  saliency[inside] = unit(saliency_of(regions))[regions.labels]
  return saliency


def saliency_of(regions: Superpixels) -> np.ndarray:
  """The geodesic distance of each superpixel to the background, f64[S] in [0, 1]."""
  colour = superpixels.pairwise(regions.lab)
  graph = clipped_graph(regions, colour)
  distance = csgraph.dijkstra(graph, indices=np.flatnonzero(background(regions, colour)),
                              min_only=True)
  # The few most distant superpixels shall not dim the rest: the top 2 % are all 1.
  top = np.sort(distance)[::-1][max(round(0.02 * len(distance)), 1) - 1]
  return np.minimum(distance / top, 1) if top > 0 else np.zeros_like(distance)


def clipped_graph(regions: Superpixels, colour: np.ndarray) -> sparse.csr_array:
  """Neighbours, and all pairs on the border, joined by colour difference less a clip.

  The clip keeps the small differences of a smooth background from adding up.
  """
  clip = superpixels.scales(regions.adjacent, colour).clip
  links = superpixels.link_border(regions.adjacent, regions.border)
  # Stored zeros are edges of length 0, which a dense matrix could not tell from no edge.
  ends = np.nonzero(links & ~np.eye(len(links), dtype=bool))
  return sparse.csr_array((np.maximum(colour[ends] - clip, 0), ends), shape=links.shape)


def background(regions: Superpixels, colour: np.ndarray) -> np.ndarray:
  """bool[S]: the superpixels on the border that do not stand out from the others there.

  Each is compared with the part of the border most like it, near parts counting more; where that
  separates them, the less salient half of the range is background.
  """
  border = np.flatnonzero(regions.border)
  kept = regions.border.copy()
  if len(border) < 2:
    return kept
  apart = superpixels.pairwise(regions.position)[np.ix_(border, border)]
  contrast = colour[np.ix_(border, border)] / (1 + 3 * apart)
  np.fill_diagonal(contrast, np.inf)
  nearest = round(5 * len(regions.lab) / 200)  # five of 200 superpixels
  nearest = min(max(nearest, 1), len(border) - 1)
  saliency = np.sort(contrast, axis=1)[:, :nearest].mean(axis=1)
  if np.ptp(saliency) > 1:
    kept[border] = unit(saliency) <= 0.5
  return kept
