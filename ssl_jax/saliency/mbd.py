"""Minimum barrier saliency, MB and MB+.

Zhang et al., "Minimum Barrier Salient Object Detection at 80 FPS", ICCV 2015, and its code, which
works on images of 300 pixels (`doMBS.m`, `getParam.m`, `BG.m`, `MBS.cpp`).
"""

import numpy as np
from scipy import ndimage
from skimage.morphology import reconstruction

from ssl_jax.saliency.barrier import barrier_distance
from ssl_jax.saliency.frame import without_frame_strict
from ssl_jax.saliency.superpixels import scale, unit

MARGIN = 0.1  # of height or width: the strips whose colours are the background's
SPREAD = 50.0  # added to the variances of a strip's colours
SMOOTHING = 50.0  # alpha of equation 9
CONTRAST = 10.0  # b of equation 11
_MEDIAN = 5  # pixels, of an image of 300


def minimum_barrier(image: np.ndarray) -> np.ndarray:
  """MB, the map of an image u8[H,W,3]: f64[H,W] in [0, 1]."""
  return finish(barrier_map(image), scale(image))


def minimum_barrier_plus(image: np.ndarray) -> np.ndarray:
  """MB+, which adds how unlike the border's colours a pixel is: f64[H,W] in [0, 1]."""
  return finish(barrier_map(image) + unlike_border(image), scale(image))


def barrier_map(image: np.ndarray) -> np.ndarray:
  """The minimum barrier distance, summed over L, a and b of 8 bits each: f64[H,W] in [0, 1]."""
  inside = without_frame_strict(image)
  lab = median(lab_bytes(image[inside]), round(_MEDIAN * scale(image)) // 2)
  distance = np.zeros(image.shape[:2])
  distance[inside] = barrier_distance(lab).sum(axis=-1)
  return unit(distance)


def lab_bytes(image: np.ndarray) -> np.ndarray:
  """CIE L*a*b* in 8 bits as OpenCV stores it: 255/100 L, a + 128, b + 128; u8[H,W,3]."""
  levels = np.arange(256) / 255
  linear = np.where(levels > 0.04045, ((levels + 0.055) / 1.055) ** 2.4, levels / 12.92)
  xyz = linear.astype(np.float32)[image] @ _TO_XYZ  # in units of the white point's, D65
  root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
  x, y, z = np.moveaxis(root, -1, 0)
  lab = np.stack([(116 * y - 16) * 2.55, 500 * (x - y) + 128, 200 * (y - z) + 128], axis=-1)
  return np.clip(np.rint(lab), 0, 255).astype(np.uint8)


_TO_XYZ = (np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169],
                     [0.019334, 0.119193, 0.950227]])
           / np.array([[0.950456], [1.0], [1.088754]])).T.astype(np.float32)


def median(image: np.ndarray, radius: int) -> np.ndarray:
  """The median of a square of 2 radius + 1 pixels, the border repeated outwards: [H,W,C].

  By forgetful selection on whole arrays: of half the pixels and two more, neither the least nor
  the greatest can be the median, so both go, and one of those left comes.
  """
  height, width = image.shape[:2]
  padded = np.pad(image, [(radius, radius), (radius, radius), (0, 0)], mode="edge")
  size = range(2 * radius + 1)
  pixels = [padded[i:i + height, j:j + width] for i in size for j in size]
  kept = len(pixels) // 2 + 2
  pool, rest = pixels[:kept], pixels[kept:]
  while len(pool) > 1:
    for order in (range(len(pool) - 1), range(len(pool) - 3, -1, -1)):  # the greatest to the end,
      for i in order:  # the least to the start
        pool[i], pool[i + 1] = np.minimum(pool[i], pool[i + 1]), np.maximum(pool[i], pool[i + 1])
    pool = pool[1:-1] + rest[:1]
    rest = rest[1:]
  return pool[0]


def unlike_border(image: np.ndarray) -> np.ndarray:
  """The distance of each pixel's colour from those along the border: f64[H,W] in [0, 1].

  Section 3.3: for each of four strips the distance from its mean, in the space where its colours
  have unit covariance, measured as a sum of absolute values; the strip that is most unlike a pixel
  does not count, for it may be the object's.
  """
  height, width = image.shape[:2]
  rows, columns = max(1, int(MARGIN * height)), max(1, int(MARGIN * width))
  pixels = image.astype(np.float32)
  maps = []
  for strip in (pixels[:rows], pixels[-rows:], pixels[:, :columns], pixels[:, -columns:]):
    colours = strip.reshape(-1, 3)
    mean = colours.mean(axis=0)
    centred = colours - mean
    covariance = centred.T @ centred / max(len(colours) - 1, 1) + SPREAD * np.eye(3)
    axes, variances, _ = np.linalg.svd(covariance)
    whiten = (axes / np.sqrt(variances)).astype(np.float32)
    maps.append(unit(np.abs(pixels @ whiten - mean @ whiten).sum(axis=-1)))
  return unit(np.sum(maps, axis=0) - np.max(maps, axis=0))


def finish(saliency: np.ndarray, size: float) -> np.ndarray:
  """Prefers the centre, smooths within contours, and raises the contrast (section 3.4).

  Args:
    saliency: f64[H,W].
    size: The image's size over 300 pixels.
  """
  height, width = saliency.shape
  down = (np.arange(height) + 0.5) / height - 0.5
  right = (np.arange(width) + 0.5) / width - 0.5
  centre = 1 - np.hypot(down[:, None], right[None]) / np.hypot(0.5, 0.5)
  saliency = unit(saliency * centre)
  side = max(3, round(size * int(SMOOTHING * np.sqrt(saliency.mean()))))
  return raise_contrast(smooth(saliency, side))


def smooth(saliency: np.ndarray, side: int) -> np.ndarray:
  """Opening, then closing by reconstruction with a square: f64[H,W] in [0, 1], in steps of 1/255.

  Bright and dark spots that the square does not fit into go; all other contours stay.
  """
  levels = np.rint(255 * saliency).astype(np.uint8)
  opened = reconstruction(ndimage.grey_erosion(levels, (side, side)), levels)
  closed = reconstruction(ndimage.grey_dilation(opened, (side, side)), opened, method="erosion")
  return closed / 255


def raise_contrast(saliency: np.ndarray) -> np.ndarray:
  """A sigmoid between the means above and below half of the maximum: f64[H,W] in [0, 1]."""
  above = saliency >= 0.5 * saliency.max()
  if above.all():
    return np.zeros_like(saliency)
  middle = (saliency[above].mean() + saliency[~above].mean()) / 2
  return unit(1 / (1 + np.exp(-CONTRAST * (saliency - middle))))
