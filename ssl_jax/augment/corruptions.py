"""The fifteen corruptions of ImageNet-C, on the device: any set gets its "-C".

Hendrycks and Dietterich 2019, arXiv:1903.12261, and its code, whose constants for 224 pixels
(ImageNet-C) and 32 pixels (CIFAR-C) stand in the tables below. A corruption is `(key, image
f32[H, W, 3] in [0, 1], severity i32[] from 1 to 5) -> image`; H and W are equal.

Where this differs from the authors' files, which are made with Pillow, OpenCV and ImageMagick: all
random draws; glass blur exchanges all pixels at once instead of one after the other; frost has no
photographs of ice and lays ridges of fractal noise over the image; motion blur samples its line at
the nearest pixels; JPEG has no entropy coding, which loses nothing, and replicates chroma where
libjpeg interpolates. `snow`, `fog`, `frost`, `glass_blur` and `motion_blur` figures are therefore
close to, but not those of, the files.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment import jpeg
from ssl_jax.augment.color import luma
from ssl_jax.types import Array

Corruption = Callable[[Array, Array, Array], Array]


def _at(table: Sequence, severity: Array) -> Array:
  return jnp.asarray(table, jnp.float32)[severity - 1]


def gaussian_noise(key, image, severity, *, deviation):
  """Adds normal noise to every value."""
  return jnp.clip(image + _at(deviation, severity) * jax.random.normal(key, image.shape), 0, 1)


def shot_noise(key, image, severity, *, photons):
  """Poisson counts of a few photons a value."""
  rate = _at(photons, severity)
  return jnp.clip(jax.random.poisson(key, image * rate) / rate, 0, 1)


def impulse_noise(key, image, severity, *, share):
  """Replaces a share of the values by 0 or 1."""
  u = jax.random.uniform(key, image.shape)
  share = _at(share, severity)
  return jnp.where(u < share / 2, 0.0, jnp.where(u < share, 1.0, image))


def defocus_blur(key, image, severity, *, disk):
  """The mean over a disk with a softened edge; `disk` holds (radius, softening)."""
  del key
  radius, soft = _at(disk, severity)
  reach = max(8, int(np.max(np.asarray(disk)[:, 0])))
  line = jnp.arange(-reach, reach + 1)
  kernel = (line[:, None] ** 2 + line**2 <= radius**2).astype(jnp.float32)
  kernel = kernel / kernel.sum()
  # The authors soften with 3 taps up to a radius of 8 and with 5 beyond.
  kernel = _separable(kernel, _gaussian(soft, jnp.where(radius <= 8, 1, 2), 2), "constant")
  padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), "reflect")
  return jnp.clip(jax.lax.conv_general_dilated(
      padded.transpose(2, 0, 1)[:, None], kernel[None, None], (1, 1), "VALID",
      precision=jax.lax.Precision.HIGHEST)[:, 0].transpose(1, 2, 0), 0, 1)


def glass_blur(key, image, severity, *, panes):
  """Exchanges near pixels between two blurs; `panes` holds (sigma, distance, times)."""
  sigma, distance, times = _at(panes, severity)
  reach = int(np.ceil(4 * np.max(np.asarray(panes)[:, 0])))
  size = image.shape[0]
  weights = _gaussian(sigma, jnp.floor(4 * sigma + 0.5), reach)
  image = _separable(image, weights, "edge")
  rows, columns = jnp.meshgrid(jnp.arange(size), jnp.arange(size), indexing="ij")

  def once(i, image):
    # numpy's randint(-d, d) leaves +d out.
    shift = jax.random.uniform(jax.random.fold_in(key, i), (2, size, size),
                               minval=-distance, maxval=distance)
    shift = jnp.floor(shift).astype(jnp.int32)
    moved = image[jnp.clip(rows + shift[0], 0, size - 1), jnp.clip(columns + shift[1], 0, size - 1)]
    return jnp.where(i < times, moved, image)

  image = jax.lax.fori_loop(0, int(np.max(np.asarray(panes)[:, 2])), once, image)
  return jnp.clip(_separable(image, weights, "edge"), 0, 1)


def motion_blur(key, image, severity, *, strokes):
  """The mean along a line of random direction; `strokes` holds (radius, sigma)."""
  angle = jax.random.uniform(key, minval=-45.0, maxval=45.0)
  return _motion(image, angle, _at(strokes, severity), strokes)


def zoom_blur(key, image, severity, *, zooms):
  """The mean of the image and of itself enlarged; `zooms` holds (number of factors, step)."""
  del key
  count, step = _at(zooms, severity)

  def add(i, total):
    return total + jnp.where(i < count, 1.0, 0.0) * _zoom(image, 1 + i * step)

  most = int(np.max(np.asarray(zooms)[:, 0]))
  return jnp.clip(jax.lax.fori_loop(0, most, add, image) / (count + 1), 0, 1)


def snow(key, image, severity, *, flakes):
  """Flakes blurred along their fall; `flakes` holds (mean, deviation, zoom, threshold, radius,
  sigma, share of the image)."""
  mean, deviation, zoom, threshold, radius, sigma, share = _at(flakes, severity)
  size = image.shape[0]
  layer = mean + deviation * jax.random.normal(jax.random.fold_in(key, 0), (size, size, 1))
  layer = _zoom(layer, zoom)
  layer = jnp.clip(jnp.where(layer < threshold, 0.0, layer), 0, 1)
  angle = jax.random.uniform(jax.random.fold_in(key, 1), minval=-135.0, maxval=-45.0)
  layer = _motion(layer, angle, (radius, sigma), np.asarray(flakes)[:, 4:6])
  pale = jnp.maximum(image, luma(image)[..., None] * 1.5 + 0.5)
  return jnp.clip(share * image + (1 - share) * pale + layer + layer[::-1, ::-1], 0, 1)


def frost(key, image, severity, *, weights):
  """Ice over the image; `weights` holds those of (image, ice)."""
  ours, ice = _at(weights, severity)
  ridges = 1 - jnp.abs(2 * _plasma(jax.random.fold_in(key, 0), image.shape[0], 1.6) - 1)
  grain = _plasma(jax.random.fold_in(key, 1), image.shape[0], 1.2)
  layer = (ridges**4 * (0.6 + 0.4 * grain))[..., None] * jnp.array([0.82, 0.92, 1.0])
  return jnp.clip(ours * image + ice * layer, 0, 1)


def fog(key, image, severity, *, clouds):
  """Adds fractal noise and lowers the contrast; `clouds` holds (amount, decay)."""
  amount, decay = _at(clouds, severity)
  top = image.max()
  image = image + amount * _plasma(key, image.shape[0], decay)[..., None]
  return jnp.clip(image * top / (top + amount), 0, 1)


def brightness(key, image, severity, *, added):
  """Adds to the value of HSV."""
  del key
  value = image.max(axis=-1, keepdims=True)
  raised = jnp.clip(value + _at(added, severity), 0, 1)
  return jnp.where(value > 0, image * raised / jnp.maximum(value, 1e-12), raised)


def contrast(key, image, severity, *, share):
  """Moves every value towards its channel's mean."""
  del key
  mean = image.mean(axis=(0, 1))
  return jnp.clip((image - mean) * _at(share, severity) + mean, 0, 1)


def elastic_transform(key, image, severity, *, waves):
  """An affine map of three points, then smooth displacements; `waves` holds (amplitude, sigma,
  deviation of the points) as shares of the side."""
  size = image.shape[0]
  amplitude, sigma, moved = _at(waves, severity) * size
  keys = jax.random.split(key, 3)
  third = size // 3
  points = jnp.array([[1, 1], [1, -1], [-1, -1]]) * third + size // 2  # x, y
  there = points + jax.random.uniform(keys[0], (3, 2), minval=-moved, maxval=moved)
  # Where each pixel of the result comes from: the inverse of the map that moves the points.
  turn = jnp.linalg.solve(jnp.concatenate([there, jnp.ones((3, 1))], 1), points.astype(jnp.float32))
  y, x = jnp.meshgrid(jnp.arange(size), jnp.arange(size), indexing="ij")
  source = jnp.stack([x, y, jnp.ones_like(x)], -1).astype(jnp.float32) @ turn
  image = _sample(image, source[..., 1], source[..., 0], "mirror")
  smooth = _smoothing(size, sigma)
  dx, dy = (amplitude * smooth @ jax.random.uniform(k, (size, size), minval=-1.0, maxval=1.0)
            @ smooth.T for k in keys[1:])
  return jnp.clip(_sample(image, y + dy, x + dx, "reflect"), 0, 1)


def pixelate(key, image, severity, *, share):
  """Pillow's box filter down to a share of the side, and up again."""
  del key
  size = image.shape[0]
  small = jnp.floor(size * _at(share, severity) + 1e-4)
  scale = size / small
  pixel = jnp.arange(size) + 0.5
  place = jnp.floor(pixel / scale) + 0.5  # of the small pixel that each pixel shows
  # Pillow's box holds -1/2 out and 1/2 in.
  away = (pixel[None, :] - place[:, None] * scale) / scale
  rows = ((away > -0.5) & (away <= 0.5)).astype(jnp.float32)
  rows = rows / rows.sum(axis=1, keepdims=True)
  return _apply(rows, image)


def jpeg_compression(key, image, severity, *, quality):
  """JPEG's transform and quantisation, with chroma at half resolution."""
  del key
  return jpeg.degrade(image, _at(quality, severity))


def _gaussian(sigma, reach, most: int) -> Array:
  """The taps f32[2 most + 1] of a Gaussian cut beyond `reach`."""
  place = jnp.abs(jnp.arange(-most, most + 1))
  weights = jnp.where(place <= reach, jnp.exp(-place**2 / (2 * jnp.maximum(sigma, 1e-3) ** 2)), 0)
  return weights / weights.sum()


def _separable(image, weights, mode):
  reach = len(weights) // 2
  for axis in (0, 1):
    pad = [(0, 0)] * image.ndim
    pad[axis] = (reach, reach)
    padded = jnp.pad(image, pad, mode)
    image = sum(w * jax.lax.slice_in_dim(padded, i, i + image.shape[axis], axis=axis)
                for i, w in enumerate(weights))
  return image


def _motion(image, angle, stroke, table):
  """One-sided Gaussian weights along a line, as ImageMagick's motion blur has them."""
  radius, sigma = stroke
  size, most = image.shape[0], 2 * int(np.max(np.asarray(table)[:, 0])) + 1
  steps = jnp.arange(most)
  weights = jnp.where(steps < 2 * radius + 1, jnp.exp(-steps**2 / (2 * sigma**2)), 0.0)
  weights = weights / weights.sum()
  theta = jnp.deg2rad(angle)
  place = jnp.arange(size)

  def add(i, total):
    down, right = (jnp.ceil(i * f(theta) - 0.5).astype(jnp.int32) for f in (jnp.sin, jnp.cos))
    rows = image[jnp.clip(place + down, 0, size - 1)]
    return total + weights[i] * rows[:, jnp.clip(place + right, 0, size - 1)]

  return jnp.clip(jax.lax.fori_loop(0, most, add, jnp.zeros_like(image)), 0, 1)


def _zoom(image, factor):
  """The centre of an image, enlarged to all of it, with two taps."""
  size = image.shape[0]
  middle = jnp.full(2, size * (1 - factor) / 2)
  return jax.image.scale_and_translate(
      image, image.shape, (0, 1), jnp.full(2, factor), middle, "linear", antialias=False)


def _plasma(key, size, decay):
  """Fractal noise f32[size, size] in [0, 1] by the diamond-square algorithm on a torus."""
  side = 1 << max(1, int(np.ceil(np.log2(size))))
  grid, step, wibble, level = jnp.zeros((side, side)), side, 100.0, 0
  while step >= 2:
    half = step // 2

    def mean(total, number, wibble=wibble, level=level):
      noise = jax.random.uniform(jax.random.fold_in(key, 3 * level + number), total.shape,
                                 minval=-1.0, maxval=1.0)
      return total / 4 + wibble * wibble * noise

    corners = grid[::step, ::step]
    square = corners + jnp.roll(corners, -1, 0)
    centres = mean(square + jnp.roll(square, -1, 1), 0)
    grid = grid.at[half::step, half::step].set(centres)
    upper = centres + jnp.roll(centres, 1, 0) + corners + jnp.roll(corners, -1, 1)
    left = centres + jnp.roll(centres, 1, 1) + corners + jnp.roll(corners, -1, 0)
    grid = grid.at[::step, half::step].set(mean(upper, 1))
    grid = grid.at[half::step, ::step].set(mean(left, 2))
    step, wibble, level = half, wibble / decay, level + 1
  grid = grid - grid.min()
  return (grid / grid.max())[:size, :size]


def _smoothing(size, sigma):
  """The matrix of a Gaussian cut at 3 sigma, mirrored at the borders: f32[size, size]."""
  place = jnp.arange(size)
  far = 1 + 3 * size // size  # mirror images that 3 sigma of a whole side can reach
  weights = jnp.zeros((size, size))
  for turn in range(-far, far + 1):
    image_of = turn * size + (place if turn % 2 == 0 else size - 1 - place)
    away = jnp.abs(place[:, None] - image_of)
    weights += jnp.where(away <= 3 * sigma, jnp.exp(-away**2 / (2 * jnp.maximum(sigma, 1e-3)**2)),
                         0.0)
  return weights / weights.sum(axis=1, keepdims=True)


def _sample(image, y, x, mode):
  take = partial(jax.scipy.ndimage.map_coordinates, coordinates=[y, x], order=1, mode=mode)
  return jnp.stack([take(image[..., c]) for c in range(image.shape[-1])], axis=-1)


def _apply(rows, image):
  return jnp.einsum("yh,hwc,xw->yxc", rows, image, rows, precision=jax.lax.Precision.HIGHEST)


def _zooms(*pairs):
  """(number of factors, step) of the authors' `arange(1, end, step)`, its rounding included."""
  return [(len(np.arange(1, end, step)), step) for end, step in pairs]


def _made(small: bool) -> dict[str, Corruption]:
  """The corruptions with the constants of CIFAR-C (small) or ImageNet-C."""
  def choose(large_table, small_table):
    return small_table if small else large_table
  return {
    "gaussian_noise": partial(gaussian_noise, deviation=choose(
        (.08, .12, .18, .26, .38), (.04, .06, .08, .09, .10))),
    "shot_noise": partial(shot_noise, photons=choose(
        (60, 25, 12, 5, 3), (500, 250, 100, 75, 50))),
    "impulse_noise": partial(impulse_noise, share=choose(
        (.03, .06, .09, .17, .27), (.01, .02, .03, .05, .07))),
    "defocus_blur": partial(defocus_blur, disk=choose(
        ((3, .1), (4, .5), (6, .5), (8, .5), (10, .5)),
        ((.3, .4), (.4, .5), (.5, .6), (1, .2), (1.5, .1)))),
    "glass_blur": partial(glass_blur, panes=choose(
        ((.7, 1, 2), (.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        ((.05, 1, 1), (.25, 1, 1), (.4, 1, 1), (.25, 1, 2), (.4, 1, 2)))),
    "motion_blur": partial(motion_blur, strokes=choose(
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)))),
    "zoom_blur": partial(zoom_blur, zooms=choose(
        _zooms((1.11, .01), (1.16, .01), (1.21, .02), (1.26, .02), (1.31, .03)),
        _zooms((1.06, .01), (1.11, .01), (1.16, .01), (1.21, .01), (1.26, .01)))),
    "snow": partial(snow, flakes=choose(
        ((.1, .3, 3, .5, 10, 4, .8), (.2, .3, 2, .5, 12, 4, .7), (.55, .3, 4, .9, 12, 8, .7),
         (.55, .3, 4.5, .85, 12, 8, .65), (.55, .3, 2.5, .85, 12, 12, .55)),
        ((.1, .2, 1, .6, 8, 3, .95), (.1, .2, 1, .5, 10, 4, .9), (.15, .3, 1.75, .55, 10, 4, .9),
         (.25, .3, 2.25, .6, 12, 6, .85), (.3, .3, 1.25, .65, 14, 12, .8)))),
    "frost": partial(frost, weights=choose(
        ((1, .4), (.8, .6), (.7, .7), (.65, .7), (.6, .75)),
        ((1, .2), (1, .3), (.9, .4), (.85, .4), (.75, .45)))),
    "fog": partial(fog, clouds=choose(
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        ((.2, 3), (.5, 3), (.75, 2.5), (1, 2), (1.5, 1.75)))),
    "brightness": partial(brightness, added=choose(
        (.1, .2, .3, .4, .5), (.05, .1, .15, .2, .3))),
    "contrast": partial(contrast, share=choose(
        (.4, .3, .2, .1, .05), (.75, .5, .4, .3, .15))),
    # ImageNet-C's factors are of 244, a slip of the original; they count for any side here.
    "elastic_transform": partial(elastic_transform, waves=np.asarray(choose(
        ((2, .7, .1), (2, .08, .2), (.05, .01, .02), (.07, .01, .02), (.12, .01, .02)),
        ((0, 0, .08), (.05, .2, .07), (.08, .06, .06), (.1, .04, .05), (.1, .03, .03)))) * choose(
            244 / 224, 1)),
    "pixelate": partial(pixelate, share=choose(
        (.6, .5, .4, .3, .25), (.95, .9, .85, .75, .65))),
    "jpeg_compression": partial(jpeg_compression, quality=choose(
        (25, 18, 15, 10, 7), (80, 65, 58, 50, 40))),
  }


CORRUPTIONS = _made(small=False)  # ImageNet-C's constants, for 224 pixels
SMALL_CORRUPTIONS = _made(small=True)  # CIFAR-C's, for 32 pixels

# The errors of AlexNet on ImageNet-C, mean over severities, by which its mCE divides (authors'
# code), in the order of CORRUPTIONS.
ALEXNET_ERRORS = (0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816,
                  0.826572, 0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500)


def corrupt(name: str, key: Array, images: Array, index: Array, severity: Array) -> Array:
  """Corrupts stored images, rounded down to 8 bits as the authors' files are.

  Args:
    name: One of `CORRUPTIONS`; images of up to 64 pixels take CIFAR-C's constants.
    key: The root key.
    images: u8[B, S, S, 3].
    index: i32[B], the number of each image in its set; image n gets fold_in(key, n).
    severity: i32[] from 1 to 5.

  Returns:
    u8[B, S, S, 3].
  """
  one = (SMALL_CORRUPTIONS if images.shape[1] <= 64 else CORRUPTIONS)[name]
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
  out = jax.vmap(lambda k, image: one(k, image.astype(jnp.float32) / 255, severity))(keys, images)
  return jnp.clip(jnp.floor(out * 255), 0, 255).astype(jnp.uint8)
