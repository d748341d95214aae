"""Unsupervised saliency: where in an image is what it shows, by classical estimators.

    saliency = estimate(image, "rbd")  # u8[H,W,3] -> f32[H,W] in [0, 1]

`python -m ssl_jax.saliency --help` makes the masks of a whole data set.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from ssl_jax.errors import UserError, nearest
from ssl_jax.saliency.gs import geodesic_saliency
from ssl_jax.saliency.mbd import minimum_barrier, minimum_barrier_plus
from ssl_jax.saliency.mc import absorbing_chain
from ssl_jax.saliency.rbd import robust_background

__all__ = ["CLASSICAL", "METHODS", "estimate", "estimate_with"]

Estimator = Callable[[np.ndarray], np.ndarray]  # u8[h,w,3] -> f[h,w] in [0, 1]

SIZES = (96, 300)  # the least and the greatest side worked at; 300 is that of doMBS.m
_SHORTEST = 8  # pixels of the other side: below, nothing is left between the borders

# The four whose mean teaches a network; MB is what MB+ improves.
CLASSICAL = {"gs": geodesic_saliency, "mbd+": minimum_barrier_plus, "rbd": robust_background,
             "mc": absorbing_chain}


def mean_of_all(image: np.ndarray) -> np.ndarray:
  """The mean of the classical maps of an image u8[H,W,3]: f64[H,W] in [0, 1]."""
  return np.mean([method(image) for method in CLASSICAL.values()], axis=0)


METHODS: dict[str, Estimator] = {**CLASSICAL, "mbd": minimum_barrier, "mean": mean_of_all}


def estimate(image: np.ndarray, method: str, size: int | None = None) -> np.ndarray:
  """Estimates the saliency of every pixel.

  Args:
    image: u8[H,W,3], of any size.
    method: "gs" (geodesic), "mbd" and "mbd+" (minimum barrier), "rbd" (robust background), "mc"
      (absorbing Markov chain), or "mean" (of gs, mbd+, rbd and mc).
    size: The longer side of the image that is worked on, in pixels; by default the image's own, but
      from 96 to 300. Smaller is faster and coarser: all lengths inside are scaled with it.

  Returns:
    f32[H,W] from 0 to 1; all zeros if nothing stands out.

  Raises:
    UserError: There is no such method.
  """
  if method not in METHODS:
    raise UserError(f"saliency method {method!r} does not exist; {nearest(method, METHODS)}")
  return estimate_with(METHODS[method], image, size)


def estimate_with(estimator: Estimator, image: np.ndarray, size: int | None = None) -> np.ndarray:
  """The same with an estimator of one's own: u8[h,w,3] -> f[h,w] in [0, 1]."""
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
    raise UserError(f"an image is {image.dtype}{list(image.shape)}, must be uint8[H,W,3]; "
                    "ssl_jax.data.decode makes it so")
  height, width = image.shape[:2]
  side = size or min(max(height, width, SIZES[0]), SIZES[1])
  ratio = side / max(height, width)
  small = max(round(width * ratio), _SHORTEST), max(round(height * ratio), _SHORTEST)
  # BOX is the area interpolation of the MBD code; it would leave blocks in an enlarged image.
  how = Image.Resampling.BOX if ratio < 1 else Image.Resampling.BILINEAR
  saliency = estimator(np.asarray(Image.fromarray(image).resize(small, how)))
  restored = Image.fromarray(saliency.astype(np.float32)).resize(
      (width, height), Image.Resampling.BILINEAR)
  return np.clip(np.asarray(restored), 0, 1)
