"""Strong augmentation: some of fourteen operations of Pillow, drawn anew for every image.

The pool of RandAugment in FixMatch (Sohn et al. 2020, arXiv:2001.07685, table 12) with the
amounts that the released code of CLSA gives it (Wang and Qi 2021, arXiv:2104.07713). There an
operation gets a level from 1 to 9: enhancements only weaken (factors 0.14 to 0.86).

Under `vmap` a switch evaluates all fourteen. Here a draw is one blend, whose other image is black,
a mean, the grey or the smoothed image (brightness, contrast, colour, sharpness), two operations on
bits, two that share one histogram (autocontrast, equalize), and one affine map, which is the
identity unless the image is sheared, translated or rotated.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment import pillow
from ssl_jax.types import Array

(AUTO_CONTRAST, BRIGHTNESS, COLOUR, CONTRAST, EQUALIZE, IDENTITY, POSTERIZE, ROTATE, SHARPNESS,
 SHEAR_X, SHEAR_Y, SOLARIZE, TRANSLATE_X, TRANSLATE_Y) = range(14)
LEVELS = np.arange(1, 10)
FACTORS = (0.09 * LEVELS + 0.05).astype(np.float32)  # brightness, colour, contrast, sharpness
BITS = (4 * LEVELS // 10 + 4).astype(np.int32)
THRESHOLDS = (256 - 256 * LEVELS // 10).astype(np.int32)
DEGREES = 3 * LEVELS
FRACTIONS = 0.3 * LEVELS / 10  # of shearing, and of a side for translation


class Draw(NamedTuple):
  """One operation and its amount, i32[] or bool[]; or several, with a leading axis."""

  operation: Array  # AUTO_CONTRAST to TRANSLATE_Y
  level: Array  # 1 to 9; autocontrast, equalize and identity have no use for it
  negative: Array  # whether a map goes the other way


def draw_strong(key: Array, *, draws: int = 5, probability: float = 0.5) -> Draw:
  """Draws operations with replacement, levels and signs; with 1 - `probability` the identity.

  Returns:
    `Draw` of [draws], in the order in which they are applied.
  """
  u = jax.random.uniform(key, (4, draws))  # one call: each costs compilation
  operation = jnp.minimum(jnp.floor(u[0] * 14), 13).astype(jnp.int32)
  level = jnp.minimum(jnp.floor(u[1] * 9), 8).astype(jnp.int32) + 1
  return Draw(jnp.where(u[3] < probability, operation, IDENTITY), level, u[2] < 0.5)


def adjust_strong(image: Array, draw: Draw) -> Array:
  """One operation, which may be traced: u8[H, W, 3] -> u8[H, W, 3], as Pillow computes it."""
  return _taken(_computed(image, draw), draw)


def random_strong(
    key: Array, image: Array, *, draws: int = 5, probability: float = 0.5
) -> Array:
  """The operations of `draw_strong` one after another: f32[H, W, 3] in [0, 1] -> the same.

  The image is rounded to 256 levels first, as the original's lies in a Pillow image.
  """
  levels = jnp.round(255 * jnp.clip(image, 0, 1)).astype(jnp.uint8)
  drawn = draw_strong(key, draws=draws, probability=probability)
  levels = jax.lax.platform_dependent(levels, drawn, cpu=_by_halves, default=_in_turn)
  return levels.astype(jnp.float32) / 255


def _in_turn(image, drawn):
  return jax.lax.scan(lambda image, draw: (adjust_strong(image, draw), None), image, drawn)[0]


def _by_halves(image, drawn):
  """`_in_turn` for a CPU, where all that is fused with a gather becomes scalar: across the branches
  of a cond on what is the same for all images, XLA fuses nothing. That halves the time."""
  def half(image, step):
    draw, second = step
    return jax.lax.cond(second, _taken, _computed, image, draw), None

  twice = jax.tree.map(lambda x: jnp.repeat(x, 2), drawn)
  second = jnp.arange(twice.level.shape[0]) % 2 == 1
  return jax.lax.scan(half, image, (twice, second))[0]


def _computed(image, draw):
  """Operations that compute a pixel from itself, its neighbours or a mean; others do nothing."""
  at = draw.operation
  factor, bits, threshold = (jnp.asarray(x)[draw.level - 1] for x in (FACTORS, BITS, THRESHOLDS))
  other = jnp.where(at == CONTRAST, pillow.mean_grey(image), 0).astype(jnp.uint8)
  other = jnp.where(at == COLOUR, pillow.grey(image)[..., None], other)
  other = jnp.where(at == SHARPNESS, pillow.smooth(image), other)
  blended = (at == BRIGHTNESS) | (at == CONTRAST) | (at == COLOUR) | (at == SHARPNESS)
  changed = jnp.where(blended, pillow.blend(image, other, factor), image)
  changed = jnp.where(at == POSTERIZE, pillow.posterize(image, bits), changed)
  return jnp.where(at == SOLARIZE, pillow.solarize(image, threshold), changed)


def _taken(image, draw):
  """Operations that take a pixel from elsewhere, or its level from a histogram: gathers."""
  at, counts = draw.operation, pillow.histogram(image)
  changed = jnp.where(at == AUTO_CONTRAST, pillow.auto_contrast(image, counts), image)
  changed = jnp.where(at == EQUALIZE, pillow.equalize(image, counts), changed)
  return pillow.nearest(changed, _map(image.shape, draw))


def _map(shape, draw):
  """The coefficients i32[6] of the operation; the identity where it is no map."""
  height, width, _ = shape
  maps = np.empty((14, 9, 2, 6), np.int32)
  maps[:] = pillow.IDENTITY
  for i in range(9):
    for negative, sign in enumerate((1, -1)):
      amount = sign * FRACTIONS[i]
      maps[ROTATE, i, negative] = pillow.rotation(sign * DEGREES[i], height, width)
      maps[SHEAR_X, i, negative] = pillow.shear_x(amount)
      maps[SHEAR_Y, i, negative] = pillow.shear_y(amount)
      maps[TRANSLATE_X, i, negative] = pillow.translate_x(int(amount * width))
      maps[TRANSLATE_Y, i, negative] = pillow.translate_y(int(amount * height))
  return jnp.asarray(maps)[draw.operation, draw.level - 1, draw.negative.astype(jnp.int32)]
