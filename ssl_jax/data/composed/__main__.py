"""The command: `python -m ssl_jax.data.composed --out DIR [--size 96 --train 10000 ...]`."""

import argparse
import dataclasses
import sys

import numpy as np
from PIL import Image

from ssl_jax.data.composed import builder, plans, scenes
from ssl_jax.data.composed.parts import Parts, read_parts
from ssl_jax.data.tfds_source import default_data_dir
from ssl_jax.errors import exiting

HELP = {
    "size": "side of the images in pixels",
    "train": "training images", "validation": "validation images", "test": "test images",
    "bias": "percent of the images whose background is of the class's own environment",
    "objects_per_scene": "most objects in a scene", "seed": "of all draws"}


def parser() -> argparse.ArgumentParser:
  """The options; the numbers are those of `Settings`."""
  made = argparse.ArgumentParser(prog=builder.COMMAND, description=(
      "Composes real photographic cut-outs and real photographs to a labelled set with boxes and "
      "masks, split by object and by background."))
  made.add_argument("--out", default=default_data_dir(), help="folder of TFDS sets (%(default)s)")
  for field in dataclasses.fields(builder.Settings):
    name = "objects_per_scene" if field.name == "objects" else field.name
    made.add_argument(f"--{name.replace('_', '-')}", dest=f"n_{field.name}", type=int,
                      default=field.default, help=f"{HELP[name]} (%(default)s)")
  made.add_argument("--objects", help="folder with a folder of PNG cut-outs for each class")
  made.add_argument("--backgrounds", help="folder of photographs")
  made.add_argument("--sheet", metavar="PNG", help="only draw a sheet of the first test images: "
                    "original, mask, and the variants of the background challenge")
  return made


def sheet(settings: builder.Settings, parts: Parts, rows: int = 8) -> Image.Image:
  """The first test scenes: original, mask, and every variant."""
  def row(index):
    for variant in (builder.ORIGINAL, *plans.VARIANTS):
      plan, _ = builder.compose(settings, parts, "test", variant, index)
      scene = scenes.render(plan, parts, settings.size)
      yield scene.image
      if variant == builder.ORIGINAL:
        yield np.repeat(scene.mask[..., None], 3, -1)

  return Image.fromarray(np.concatenate([np.concatenate(list(row(i)), 1) for i in range(rows)]))


def run(argv: list[str]) -> None:
  """Builds a set, or draws a sheet of it."""
  options = parser().parse_args(argv)
  settings = builder.Settings(**{field.name: getattr(options, f"n_{field.name}")
                                 for field in dataclasses.fields(builder.Settings)})
  settings.check()
  if options.sheet:
    _, parts = read_parts(settings.size, options.objects, options.backgrounds)
    sheet(settings, parts["test"]).save(options.sheet)
    print(options.sheet)
    return
  path = builder.build(options.out, settings, options.objects, options.backgrounds)
  config = path.parent.name
  print(f"{path}: train on it with --config.data=tfds:{builder.NAME}/{config} "
        f"--config.data_dir={options.out}")


def main() -> None:
  """The command: exit status 0, or 2 with one line for a mistake of the user's."""
  exiting(run, sys.argv[1:])


if __name__ == "__main__":
  main()
