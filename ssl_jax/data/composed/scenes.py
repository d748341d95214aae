"""A scene: drawn as a plan from a random generator, then rendered at any size.

All lengths of a plan are fractions of the scene's side, so that one plan has the same picture at
every size. Every edge of a pasted thing is feathered alike, of objects and of distractors (blobs
cut out of other photographs), and now and then the whole is blurred: to find the pasted edge is not
to find the object.

The variants are those of the background challenge (Xiao et al. 2020, arXiv:2006.09994, section 2),
by its names: "mixed_same" (the object on a background of its own class), "mixed_rand" (on one of
other classes), "only_fg" (on black) and "only_bg" (the scene before the object was pasted, where
the original tiles the background over the object).
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from ssl_jax.data.composed.parts import ENVIRONMENTS, Parts, Picture

VARIANTS = ("mixed_same", "mixed_rand", "only_fg", "only_bg")
MAIN = (0.4, 0.75)  # the longer side of the object that gives the label
OTHERS = (0.2, 0.45)  # of further objects
BLOBS = (0.08, 0.2)  # the radius of a distractor
MOST_BLOBS = 3
TURN = 20.0  # degrees either way
FEATHER = (0.004, 0.011)  # sigma of the edges: 0.4 to 1.1 pixels of 96
BLUR = 0.007  # largest sigma over the whole scene
OVERLAP = 0.2  # of a further object's box with another, at most
_TRIES = 20  # places that are tried for a further object before it is left out


@dataclasses.dataclass(frozen=True)
class Patch:
  """A square of a photograph: top, left and side as fractions of what the photograph allows."""

  environment: int
  photograph: int
  place: tuple[float, float]
  side: float
  flipped: bool


@dataclasses.dataclass(frozen=True)
class Blob:
  """A distractor: a rounded shape r(angle) = radius * (1 + sum_k a_k cos(k angle + phase_k))."""

  fill: Patch
  centre: tuple[float, float]
  radius: float
  waves: tuple[tuple[float, float], ...]  # (a_k, phase_k) for k = 2, 3, 4
  feather: float


@dataclasses.dataclass(frozen=True)
class Backdrop:
  """What the objects are pasted on."""

  patch: Patch
  blobs: tuple[Blob, ...]


@dataclasses.dataclass(frozen=True)
class Pasted:
  """An object in its place; `box` is (top, left, height, width) before it is turned."""

  label: int
  cutout: int
  box: tuple[float, float, float, float]
  angle: float
  flipped: bool
  gain: float
  feather: float


@dataclasses.dataclass(frozen=True)
class Plan:
  """A scene before it is rendered. `objects` are pasted in order; the last gives the label."""

  backdrop: Backdrop | None  # None is black
  objects: tuple[Pasted, ...]
  blur: float


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


def own_environment(label: int) -> int:
  """The environment with which a class goes when backgrounds are biased."""
  return label % ENVIRONMENTS


def draw(random: np.random.Generator, parts: Parts, label: int, *, bias: float, most_objects: int
         ) -> Plan:
  """Draws a scene around an object of a class.

  Args:
    random: The draws of a scene depend on nothing else.
    parts: What the split has.
    label: The class of the main object.
    bias: With this probability the background is of the class's own environment, else of any: at 0
      backgrounds say nothing of the class, at 1 all they can.
    most_objects: There are 1 to this many, as far as there is room.
  """
  biased = random.random() < bias
  environment = own_environment(label) if biased else int(random.integers(ENVIRONMENTS))
  backdrop = _draw_backdrop(random, parts, environment)
  objects = [_draw_object(random, parts, label, MAIN)]
  for _ in range(int(random.integers(most_objects))):
    for _ in range(_TRIES):
      other = _draw_object(random, parts, int(random.integers(len(parts.objects))), OTHERS)
      if all(_overlap(other.box, o.box) <= OVERLAP for o in objects):
        objects.append(other)
        break
  return Plan(backdrop, tuple(objects[::-1]), max(0.0, random.uniform(-BLUR, BLUR)))


def variant(name: str, random: np.random.Generator, plan: Plan, parts: Parts) -> Plan:
  """A scene's variant of the background challenge, by its name in `VARIANTS`."""
  if name == "only_fg":
    return dataclasses.replace(plan, backdrop=None)
  if name == "only_bg":
    return dataclasses.replace(plan, objects=())
  own = own_environment(plan.objects[-1].label)
  if name == "mixed_rand":
    own = (own + int(random.integers(1, ENVIRONMENTS))) % ENVIRONMENTS
  return dataclasses.replace(plan, backdrop=_draw_backdrop(
      random, parts, own, other_than=plan.backdrop.patch))


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


def picture_of(pasted: Pasted, parts: Parts) -> Picture:
  """The cut-out of an object."""
  return parts.objects[pasted.label][pasted.cutout]


def background_of(backdrop: Backdrop | None, parts: Parts) -> str:
  """The name of a backdrop's photograph; "" for black."""
  return "" if backdrop is None else _photograph(backdrop.patch, parts).name


def _draw_patch(random, parts: Parts, environment: int, other_than: Patch | None = None) -> Patch:
  count = len(parts.backgrounds[environment])
  photograph = int(random.integers(count))
  if other_than is not None and count > 1 and (
      environment, photograph) == (other_than.environment, other_than.photograph):
    photograph = (photograph + 1) % count
  return Patch(environment, photograph, tuple(random.random(2).tolist()), random.uniform(0.4, 1.0),
               bool(random.integers(2)))


def _draw_backdrop(random, parts: Parts, environment: int, other_than: Patch | None = None
                   ) -> Backdrop:
  patch = _draw_patch(random, parts, environment, other_than)
  return Backdrop(patch, tuple(
      Blob(_draw_patch(random, parts, int(random.integers(ENVIRONMENTS))),
           tuple(random.random(2).tolist()), random.uniform(*BLOBS),
           tuple((random.uniform(0, 0.3), random.uniform(0, 2 * np.pi)) for _ in range(3)),
           random.uniform(*FEATHER))
      for _ in range(int(random.integers(MOST_BLOBS + 1)))))


def _draw_object(random, parts: Parts, label: int, length: tuple[float, float]) -> Pasted:
  cutout = int(random.integers(len(parts.objects[label])))
  sides = np.array(parts.objects[label][cutout].pixels.shape[:2])
  sides = random.uniform(*length) * sides / sides.max()
  corner = random.random(2) * (1 - sides)
  return Pasted(label, cutout, (*corner.tolist(), *sides.tolist()), random.uniform(-TURN, TURN),
                bool(random.integers(2)), random.uniform(0.8, 1.2), random.uniform(*FEATHER))


def _overlap(box, other) -> float:
  """The share of the smaller of two boxes (top, left, height, width) that lies in the other."""
  sides = [min(box[i] + box[i + 2], other[i] + other[i + 2]) - max(box[i], other[i])
           for i in (0, 1)]
  smaller = min(box[2] * box[3], other[2] * other[3])
  return max(0.0, sides[0]) * max(0.0, sides[1]) / smaller


def _photograph(patch: Patch, parts: Parts) -> Picture:
  return parts.backgrounds[patch.environment][patch.photograph]


def _patch(patch: Patch, parts: Parts, size: int) -> np.ndarray:
  """f32[S,S,3], 0 to 255."""
  pixels = _photograph(patch, parts).pixels
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
