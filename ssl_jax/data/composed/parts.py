"""What scenes are composed of: cut-outs by class, and photographs by environment.

The cut-outs are the photographs among the stamps of Tux Paint, the backgrounds are photographs
among desktop wallpapers and Tux Paint's templates; all are GPL-2 or freer. Folders of the user's
own may stand in for either.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from ssl_jax.errors import UserError

SPLITS = ("train", "validation", "test")
ENVIRONMENTS = 4
STAMPS = "/usr/share/tuxpaint/stamps"
STAMPS_PACKAGE = "tuxpaint-stamps-default"
CLASSES = {
    "bird": ("animals/birds",), "fish": ("animals/fish",), "flower": ("plants/flowers",),
    "fruit": ("food/fruit",), "mammal": ("animals/mammals", "animals/marsupials"),
    "money": ("symbols/money",), "space": ("space",),
    "tool": ("household", "hobbies", "sports"), "vegetable": ("food/vegetables",),
    "vehicle": ("vehicles", "military/vehicles"),
}
# Chosen by eye: photographs that show nothing of the classes above.
BACKGROUNDS = {
    "tuxpaint-data": ("/usr/share/tuxpaint/templates", (
        "burnt_bark.jpg", "cliff.jpg", "corn_maze.jpg", "lighthouse.jpg", "mossy_log.jpg",
        "mudstone.jpg", "ocean_splash.jpg", "ocean_waves.jpg", "redwoods_above.jpg", "rocks.jpg",
        "spiders_web.jpg", "sun_behind_clouds.jpg", "sun_behind_leaves.jpg", "trees_above.jpg",
        "trees_at_dusk.jpg", "wool_mill_machine.jpg")),
    "mate-backgrounds": ("/usr/share/backgrounds/mate/nature", (
        "Aqua.jpg", "Blinds.jpg", "Dune.jpg", "GreenMeadow.jpg", "RainDrops.jpg", "Storm.jpg",
        "Wood.jpg")),
    "lomiri-wallpapers-16.04": ("/usr/share/backgrounds", (
        "Bridge_by_Sander_Klootwijk.jpg", "Dragonfly_by_Bolly.jpg",
        "aitzgorri_by_Aitzol_Berasategi.jpg", "analogpattern_by_Peter_Nerlich.jpg",
        "greentock_by_Peter_Nerlich.jpg", "life_by_Aitzol_Berasategi.jpg",
        "picosdeeuropa_by_Aitzol_Berasategi.jpg", "sunset_by_Aitzol_Berasategi.jpg")),
}
_LEAST = 4  # objects of a class, or photographs of an environment, so that every split has one
_IMAGES = (".jpg", ".jpeg", ".png", ".webp")


@dataclasses.dataclass(frozen=True)
class Picture:
  """A cut-out u8[H,W,4], its border cut away, or a photograph u8[H,W,3], with what to call it."""

  name: str
  pixels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Parts:
  """What the scenes of one split are made of; no other split has any of it.

  Attributes:
    objects: Cut-outs, for each class.
    backgrounds: Photographs, for each environment.
  """

  objects: tuple[tuple[Picture, ...], ...]
  backgrounds: tuple[tuple[Picture, ...], ...]


def read_parts(size: int, objects: str | None = None, backgrounds: str | None = None
               ) -> tuple[tuple[str, ...], dict[str, Parts]]:
  """Reads cut-outs and photographs, and divides both among the splits.

  Objects are divided by the first word of their names, so that `sheep` and `sheep_lamb` stay
  together: of the words of a class in alphabetical order, every fourth is for testing and every
  eighth for validation. Photographs are ranked from blue to yellow and cut into `ENVIRONMENTS`
  equal parts (roughly: sky, water and stone, earth and bark, grass), of each of which, too, every
  fourth is for testing and every eighth for validation.

  Args:
    size: Side of the scenes, which decides the resolution that is kept.
    objects: A folder with one folder of PNG cut-outs for each class; None for Tux Paint's stamps.
    backgrounds: A folder of photographs; None for those of `BACKGROUNDS`.

  Returns:
    The names of the classes, and the parts of each split.

  Raises:
    UserError: Packages are missing, or a folder holds too little.
  """
  check_packages(objects is None, backgrounds is None)
  cutouts = _stamps() if objects is None else _own_cutouts(objects)
  photographs = _wallpapers() if backgrounds is None else _own_photographs(backgrounds)
  classes = {name: [_cutout(f, name, 2 * size) for f in files] for name, files in cutouts.items()}
  environments = _environments([_photograph(f, 2 * size) for f in photographs])
  by_class = [_divide(pictures, f"class {name!r} of {objects or STAMPS}", _first_word)
              for name, pictures in classes.items()]
  by_environment = [_divide(pictures, f"environment {i} of {backgrounds or 'the photographs'}",
                            lambda picture: picture.name)
                    for i, pictures in enumerate(environments)]
  return tuple(classes), {
      split: Parts(tuple(d[split] for d in by_class), tuple(d[split] for d in by_environment))
      for split in SPLITS}


def check_packages(objects: bool = True, backgrounds: bool = True) -> None:
  """Raises a UserError that names the Debian packages which are missing and how to get them."""
  missing = [STAMPS_PACKAGE] if objects and not pathlib.Path(STAMPS).is_dir() else []
  if backgrounds:
    missing += [package for package, (folder, names) in BACKGROUNDS.items()
                if not all((pathlib.Path(folder) / name).is_file() for name in names)]
  if missing:
    raise UserError(
        f"composed: {len(missing)} Debian packages of pictures are missing; run `apt-get install "
        f"-y --no-install-recommends {' '.join(missing)}`, or name folders of your own with "
        "--objects and --backgrounds")


def is_photograph(cutout: Image.Image) -> bool:
  """Whether a cut-out is a photograph and no flat drawing: it has many colours for its size.

  Of its opaque pixels at 96 pixels, the number of colours in steps of 8 exceeds four times the
  square root of the number of pixels. Shaded drawings pass, too: those lie in folders of their own,
  named `cartoon`.
  """
  small = cutout.convert("RGBA")
  small.thumbnail((96, 96))
  pixels = np.asarray(small)
  colours = pixels[pixels[..., 3] > 200][:, :3] // 8
  return len(np.unique(colours @ np.array([1024, 32, 1]))) > 4 * np.sqrt(len(colours))


def _stamps() -> dict[str, list[pathlib.Path]]:
  def kept(path: pathlib.Path) -> bool:
    return ("mirror" not in path.name and "cartoon" not in path.parts
            and is_photograph(Image.open(path)))

  return {name: [path for folder in folders
                 for path in sorted((pathlib.Path(STAMPS) / folder).rglob("*.png")) if kept(path)]
          for name, folders in CLASSES.items()}


def _wallpapers() -> list[pathlib.Path]:
  return [pathlib.Path(folder) / name for folder, names in BACKGROUNDS.values() for name in names]


def _own_cutouts(folder: str) -> dict[str, list[pathlib.Path]]:
  root = pathlib.Path(folder)
  classes = sorted(p for p in root.glob("*") if p.is_dir())
  found = {c.name: sorted(c.rglob("*.png")) for c in classes}
  if not any(found.values()):
    raise UserError(f"--objects={folder} holds no class: put PNG cut-outs into a folder per class")
  return found


def _own_photographs(folder: str) -> list[pathlib.Path]:
  found = sorted(p for p in pathlib.Path(folder).glob("*") if p.suffix.lower() in _IMAGES)
  if len(found) < ENVIRONMENTS * _LEAST:
    raise UserError(f"--backgrounds={folder} holds {len(found)} images, fewer than "
                    f"{ENVIRONMENTS * _LEAST}; add photographs")
  return found


def _cutout(path: pathlib.Path, label: str, side: int) -> Picture:
  opened = Image.open(path).convert("RGBA")
  opaque = opened.getchannel("A").point(lambda alpha: 255 * (alpha > 25)).getbbox()
  if opaque is None:
    raise UserError(f"{path} is transparent all over; remove it")
  opened = opened.crop(opaque)
  opened.thumbnail((side, side), Image.Resampling.LANCZOS)
  return Picture(f"{label}/{path.stem}", np.asarray(opened))


def _photograph(path: pathlib.Path, shorter: int) -> Picture:
  with Image.open(path) as opened:
    scale = shorter / min(opened.size)
    wanted = tuple(round(scale * side) for side in opened.size)
    if scale < 1:
      opened.draft("RGB", wanted)  # a JPEG of many megapixels is decoded at a fraction of them
    pixels = opened.convert("RGB").resize(wanted, Image.Resampling.LANCZOS)
  return Picture(path.stem, np.asarray(pixels))


def _first_word(picture: Picture) -> str:
  name = picture.name.rpartition("/")[2].lower()
  word = re.search("[a-z]+", name)
  return word.group() if word else name


def _environments(photographs: Sequence[Picture]) -> list[list[Picture]]:
  """The photographs from blue to yellow, in `ENVIRONMENTS` groups of equal size."""
  red, green, blue = np.stack([p.pixels.mean((0, 1)) for p in photographs], 1)
  ranked = np.argsort((red + green) / 2 - blue, kind="stable")
  return [[photographs[i] for i in part] for part in np.array_split(ranked, ENVIRONMENTS)]


def _divide(pictures: Sequence[Picture], what: str, group: Callable[[Picture], str]
            ) -> dict[str, tuple[Picture, ...]]:
  groups = sorted({group(p) for p in pictures})
  if len(groups) < _LEAST:
    raise UserError(f"{what} has {len(groups)} kinds of pictures, fewer than the {_LEAST} that "
                    "training, validation and testing need; add some")
  part = {name: "test" if rank % 4 == 1 else "validation" if rank % 8 == 3 else "train"
          for rank, name in enumerate(groups)}
  return {split: tuple(p for p in pictures if part[group(p)] == split) for split in SPLITS}
