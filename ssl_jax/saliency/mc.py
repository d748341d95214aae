"""The absorbing Markov chain: how long a random walk takes until it leaves over the border.

Jiang et al., "Saliency Detection via Absorbing Markov Chain", ICCV 2013, and its code, `GetMC.m`.
"""

import numpy as np

from ssl_jax.saliency import superpixels
from ssl_jax.saliency.superpixels import Superpixels, unit

COUNT = 250  # superpixels
STIFFNESS = 10.0  # of the affinity exp(-STIFFNESS d)
_LEAST = 1e-5  # affinity
_LONELY = 1.1  # a superpixel whose affinities, its own included, sum to less is left out
_FRAME = 13.0  # a ring of superpixels less attached than that to the next one is a frame
_UNSURE = 2.0  # above it too many superpixels lie between background and foreground
_LIKE_ITS_NEIGHBOUR = 0.3  # a superpixel left out is salient if a neighbour is as salient


def absorbing_chain(image: np.ndarray) -> np.ndarray:
  """The map of an image u8[H,W,3]: f64[H,W] in [0, 1]."""
  regions = superpixels.segment(image, COUNT, border=0)  # the outermost row of pixels
  return saliency_of(regions)[regions.labels]


def saliency_of(regions: Superpixels) -> np.ndarray:
  """The absorbed time of each superpixel, f64[S] in [0, 1]."""
  neighbours = superpixels.touching(regions.labels, [(0, 1), (1, 0), (1, 1), (1, -1)])
  weight = affinity(regions, neighbours)
  absorbing, removed = exits(weight, neighbours, regions.border)
  lonely = weight.sum(axis=1) < _LONELY
  inner = np.flatnonzero(~(removed | lonely))
  saliency = np.zeros(len(weight))
  # In an image of one colour the walk would tell nothing but the way to the border.
  if np.ptp(regions.lab, axis=0).max() > 1e-6 and absorbing[inner].any():
    saliency[inner] = walk(weight, inner, absorbing & ~lonely)
  salient = saliency > _LIKE_ITS_NEIGHBOUR
  for region in np.flatnonzero(lonely):
    saliency[region] = float((salient & neighbours[region]).any())
  return saliency


def affinity(regions: Superpixels, neighbours: np.ndarray) -> np.ndarray:
  """The affinities of two rings of neighbours, those across the image's borders included.

  Args:
    regions: The superpixels.
    neighbours: bool[S,S], those that touch, corners included.

  Returns:
    f64[S,S], symmetric, with 1 on the diagonal.
  """
  labels = regions.labels
  linked = neighbours.copy()
  for one, other in ((labels[0], labels[-1]), (labels[:, 0], labels[:, -1])):
    linked[one, other] = linked[other, one] = True
  linked = superpixels.two_rings(linked)
  np.fill_diagonal(linked, False)
  distance = superpixels.pairwise(regions.lab)
  weight = np.eye(len(linked))
  if linked.any():
    weight[linked] = np.exp(-STIFFNESS * unit(distance[linked])) + _LEAST
  return weight


def exits(weight: np.ndarray, neighbours: np.ndarray,
          border: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Where the walk is absorbed, and what is left out as a frame: two bool[S].

  The superpixels on the border absorb, unless they are hardly like those next to them; then they
  are a frame, and the next ring absorbs.
  """
  second = ~border & (neighbours & border).any(axis=1)
  crossing = neighbours & np.logical_and.outer(border, ~border)
  if weight[crossing].sum() > _FRAME or not second.any():
    return border, np.zeros_like(border)
  return second, border


def walk(weight: np.ndarray, inner: np.ndarray, absorbing: np.ndarray) -> np.ndarray:
  """The time until absorption from each state, f64[len(inner)] in [0, 1].

  Every absorbing superpixel stands for two states: one in which the walk goes on, and its double,
  to which others have the same affinity and where it ends. If the times lie between the extremes
  rather than near them, a walk that often visits what has many like it is told from one that is
  long by weighting each visit with the inverse of how often the walk without exits is there
  (equations 8 to 10).

  Args:
    weight: f64[S,S], affinities.
    inner: The states of the walk, as superpixels.
    absorbing: bool[S].
  """
  degree = weight.sum(axis=1)[inner]
  leaving = weight[:, absorbing].sum(axis=1)[inner]
  step = weight[np.ix_(inner, inner)] / (degree + leaving)[:, None]
  stay = np.eye(len(inner)) - step
  time = unit(np.linalg.solve(stay, np.ones(len(inner))))
  if spread(time) < _UNSURE:
    return time
  return unit(np.linalg.solve(stay, 1 / degree))


def spread(values: np.ndarray) -> float:
  """How far values in [0, 1] are from its ends: 1 for all at the ends, 5.. for all in the middle.

  The sum over ten bins of their share times their number, counted from the nearer end.
  """
  bins = np.minimum((values * 10).astype(int), 9) + 1
  return float(np.minimum(bins, 11 - bins).mean())
