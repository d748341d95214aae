"""From a plan to pixels, a mask, instances and boxes."""

import dataclasses
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from ssl_jax.data.composed.parts import Parts
from ssl_jax.data.composed.plans import (
  Blob,
  Pasted,
  Patch,
  Plan,
  photograph_of,
  picture_of,
)


@dataclasses.dataclass(frozen=True)
class Scene:
  """A rendered scene.

  Attributes:
    image: u8[S,S,3].
    mask: u8[S,S], the share of all objects in a pixel, times 255.
    instances: u8[S,S], 0 for background, k for the k-th object where it is at least half of what
      shows.
    boxes: f32[n,4], (top, left, bottom, right) of what shows of each object, as fractions.
    labels: i32[n], of the objects that show.
    names: Of the same.
  """

  image: np.ndarray
  mask: np.ndarray
  instances: np.ndarray
  boxes: np.ndarray
  labels: np.ndarray
  names: tuple[str, ...]


class Layer(NamedTuple):
  """Something to paste: colours f32[h,w,3] from 0 to 255, alpha f32[h,w], and its place."""

  colour: np.ndarray
  alpha: np.ndarray
  window: tuple[slice, slice]


def render(plan: Plan, parts: Parts, size: int) -> Scene:
  """Paints a plan on size x size pixels."""
  canvas = np.zeros((size, size, 3), np.float32)
  if plan.backdrop is not None:
    canvas += _patch(plan.backdrop.patch, parts, size)
    for blob in plan.backdrop.blobs:
      _blend(canvas, _blob(blob, parts, size))
  shares = np.ones((1, size, size), np.float32)
  for pasted in plan.objects:
    layer = _object(pasted, parts, size)
    _blend(canvas, layer)
    alpha = np.zeros((1, size, size), np.float32)
    alpha[0][layer.window] = layer.alpha
    shares = np.concatenate([shares * (1 - alpha), alpha])
  if plan.blur:
    canvas = gaussian_filter(canvas, (plan.blur * size, plan.blur * size, 0))
  instances = np.where(shares.max(0) >= 0.5, shares.argmax(0), 0).astype(np.uint8)
  return Scene(_bytes(canvas), _bytes(255 * (1 - shares[0])),
               *_annotate(instances, plan.objects, parts))


def _patch(patch: Patch, parts: Parts, size: int) -> np.ndarray:
  """f32[S,S,3], 0 to 255."""
  pixels = photograph_of(patch, parts).pixels
  height, width = pixels.shape[:2]
  side = patch.side * min(height, width)
  top, left = patch.place[0] * (height - side), patch.place[1] * (width - side)
  square = Image.fromarray(pixels).resize(
      (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
  pixels = np.asarray(square, np.float32)
  return pixels[:, ::-1] if patch.flipped else pixels


def _blend(canvas: np.ndarray, layer: Layer) -> None:
  """Pastes a layer onto a canvas, in place."""
  below = canvas[layer.window]
  below += layer.alpha[..., None] * (layer.colour - below)


def _layer(colour: np.ndarray, alpha: np.ndarray, top: int, left: int, size: int) -> Layer:
  """A layer whose corner lies at (top, left), without what is beyond the scene."""
  rows, columns = (slice(max(0, -start), max(0, size - start)) for start in (top, left))
  alpha = alpha[rows, columns]
  window = tuple(slice(max(0, start), max(0, start) + n)
                 for start, n in zip((top, left), alpha.shape))
  return Layer(colour[rows, columns], alpha, window)


def _blob(blob: Blob, parts: Parts, size: int) -> Layer:
  reach = blob.radius * (1 + sum(a for a, _ in blob.waves)) + 4 * blob.feather
  top, left = (int((c - reach) * size) for c in blob.centre)
  side = int(2 * reach * size) + 2
  y, x = ((np.mgrid[:side, :side] + 0.5 + np.array([top, left])[:, None, None]) / size
          - np.array(blob.centre)[:, None, None])
  angle = np.arctan2(y, x)
  edge = 1 + sum(a * np.cos(k * angle + phase) for k, (a, phase) in enumerate(blob.waves, 2))
  inside = (np.hypot(y, x) < blob.radius * edge).astype(np.float32)
  return _layer(_patch(blob.fill, parts, side), gaussian_filter(inside, blob.feather * size),
                top, left, size)


def _object(pasted: Pasted, parts: Parts, size: int) -> Layer:
  top, left, height, width = (side * size for side in pasted.box)
  cutout = Image.fromarray(picture_of(pasted, parts).pixels)
  if pasted.flipped:
    cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  # Bilinear, as a cubic's overshoot would rim the object with another colour.
  cutout = cutout.resize((max(1, round(width)), max(1, round(height))), Image.Resampling.BILINEAR)
  cutout = cutout.rotate(pasted.angle, Image.Resampling.BILINEAR, expand=True)
  sigma = pasted.feather * size
  margin = int(4 * sigma) + 1
  pixels = np.pad(np.asarray(cutout, np.float32), [(margin, margin), (margin, margin), (0, 0)])
  colour, alpha = pixels[..., :3], pixels[..., 3:] / 255
  # Beyond its edge a cut-out has no colour: it is given that of what lies nearest.
  blurred = gaussian_filter(np.concatenate([colour * alpha, alpha], -1), (sigma, sigma, 0))
  spread, soft = blurred[..., :3] / np.maximum(blurred[..., 3:], 1e-3), blurred[..., 3]
  colour = spread + alpha * (colour - spread)
  return _layer(np.clip(pasted.gain * colour, 0, 255), soft,
                round(top + (height - cutout.height) / 2) - margin,
                round(left + (width - cutout.width) / 2) - margin, size)


def _annotate(instances: np.ndarray, objects: tuple[Pasted, ...], parts: Parts):
  """Numbers the objects that show from 1, the one that gives the label first."""
  boxes, labels, names, numbered = [], [], [], np.zeros_like(instances)
  for k in range(len(objects), 0, -1):
    rows, columns = np.nonzero(instances == k)
    if not len(rows):
      continue
    boxes.append([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
    labels.append(objects[k - 1].label)
    names.append(picture_of(objects[k - 1], parts).name)
    numbered[instances == k] = len(boxes)
  return (numbered, np.array(boxes, np.float32).reshape(-1, 4) / len(instances),
          np.array(labels, np.int32), tuple(names))


def _bytes(values: np.ndarray) -> np.ndarray:
  return np.clip(np.rint(values), 0, 255).astype(np.uint8)
