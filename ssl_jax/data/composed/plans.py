"""Plans of scenes, drawn from a random generator and renderable at any size.

All lengths are fractions of the scene's side. Besides its object, or objects, a scene has
distractors: blobs cut out of other photographs, their edges feathered as the objects' are, so that
to find a pasted edge is not to find the object.

The variants are those of the background challenge (Xiao et al. 2020, arXiv:2006.09994, section 2),
by its names: "mixed_same" (the object on a background of its own class), "mixed_rand" (on one of
other classes), "only_fg" (on black) and "only_bg" (the scene before the object was pasted, where
the original tiles the background over the object).
"""

import dataclasses

import numpy as np

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


def picture_of(pasted: Pasted, parts: Parts) -> Picture:
  """The cut-out of an object."""
  return parts.objects[pasted.label][pasted.cutout]


def background_of(backdrop: Backdrop | None, parts: Parts) -> str:
  """The name of a backdrop's photograph; "" for black."""
  return "" if backdrop is None else photograph_of(backdrop.patch, parts).name


def photograph_of(patch: Patch, parts: Parts) -> Picture:
  """The photograph of a patch."""
  return parts.backgrounds[patch.environment][patch.photograph]


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
