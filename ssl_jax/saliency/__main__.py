"""`python -m ssl_jax.saliency --data SPEC --method rbd --out DIR`: masks of a set of images."""

import argparse
import os
import sys
import time

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ssl_jax.data.decoding import UnreadableError, decode
from ssl_jax.data.loading import cpu_count
from ssl_jax.data.masks import open_masks
from ssl_jax.data.source import SPECS, Source, open_source
from ssl_jax.errors import UserError, exiting

SHOWN = 12  # pairs of a preview
_TILE = 160  # pixels of a side of one picture of it
_LINES = 20  # of progress, where there is no terminal


def parse(argv: list[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
      prog="python -m ssl_jax.saliency", description=__doc__,
      epilog="An interrupted run is gone on with by the same command.")
  parser.add_argument("--data", required=True, help=SPECS)
  parser.add_argument("--split", default="train")
  parser.add_argument("--data_dir", help="where tfds sets lie")
  parser.add_argument("--method", default="rbd", help="gs, mbd, mbd+, rbd, mc, mean or learned")
  parser.add_argument("--weights", help="the network of --method=learned: see "
                      "python -m ssl_jax.saliency.teach")
  parser.add_argument("--size", type=int, help="longer side worked at; by default the image's own, "
                      "from 96 to 300; smaller is faster")
  parser.add_argument("--out", help="folder for the masks; config.masks names it")
  parser.add_argument("--workers", type=int, default=cpu_count(),
                      help="processes, by default one for each core; 0 works in this one")
  parser.add_argument("--preview", help=f"a picture of {SHOWN} images and their masks")
  arguments = parser.parse_args(argv)
  if not (arguments.out or arguments.preview):
    raise UserError("--out and --preview are missing; name a folder for the masks, or a picture")
  for name, least in (("size", 16), ("workers", 0)):
    value = getattr(arguments, name)
    if value is not None and value < least:
      raise UserError(f"--{name}={value} must be at least {least}")
  return arguments


def run(argv: list[str]) -> None:
  arguments = parse(argv)
  try:
    from ssl_jax.saliency import making
  except ImportError as error:
    raise UserError(f"saliency needs scikit-image ({error}); run `pip install "
                    "'ssl_jax[saliency]'`") from error
  recipe = making.Recipe(arguments.method, arguments.size, arguments.weights)
  recipe.check()
  source = open_source(arguments.data, arguments.split, data_dir=arguments.data_dir)
  console = Console(highlight=False, soft_wrap=True)
  if arguments.out:
    with Bar(console, len(source), arguments.method) as bar:
      making.make(source, arguments.out, recipe, arguments.workers, bar.advance)
    for line in source.skipped.news():
      console.print(line, markup=False)
    console.print(f"{len(source):,} masks in {arguments.out}, {bar.told()}; train with "
                  f"--config.masks={arguments.out}", markup=False)
  if arguments.preview:
    if arguments.out:
      of = open_masks(arguments.out, source).__getitem__
    else:
      estimator = recipe.estimator()

      def of(index):
        return making.to_mask(decode(source.records[index]["image"]), estimator, arguments.size)
    sheet = preview(source, of)
    try:
      sheet.save(arguments.preview)
    except (OSError, ValueError) as error:
      raise UserError(f"--preview={arguments.preview} cannot be written ({error}); name a .png "
                      "file in a folder that exists") from error
    console.print(f"pictures and masks in {arguments.preview}", markup=False)


class Bar:
  """Progress as a bar on a terminal, as some lines elsewhere. A context manager."""

  def __init__(self, console: Console, total: int, name: str):
    self.total, self.done, self.found = total, 0, None
    self._started = time.perf_counter()
    self._lines = 0
    self._console = console
    self._bar = Progress(
        TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[news]}"),
        TextColumn("ETA"), TimeRemainingColumn(), console=console, disable=not console.is_terminal)
    self._task = self._bar.add_task("", total=total, news="")

  def __enter__(self) -> "Bar":
    self._bar.start()
    return self

  def __exit__(self, *exc_info) -> None:
    self._bar.stop()

  def advance(self, count: int) -> None:
    """So many more are done; the first time, so many were there."""
    self.found = count if self.found is None else self.found
    self.done += count
    self._bar.update(self._task, completed=self.done, news=self.told())
    if not self._console.is_terminal and _LINES * self.done // self.total > self._lines:
      self._lines = _LINES * self.done // self.total
      self._console.print(f"{self.done}/{self.total}  {self.told()}", markup=False)

  def told(self) -> str:
    """The speed since the start, without what was there before."""
    if self.done == self.found:
      return f"{self.done:,} of them from before"
    speed = (self.done - self.found) / max(time.perf_counter() - self._started, 1e-9)
    return f"{speed:.1f} images/s"


def preview(source: Source, mask_of) -> Image.Image:
  """A sheet of images, evenly spread over a source, each with its mask to its right."""
  tiles = []
  for index in np.linspace(0, len(source) - 1, min(SHOWN, len(source))).astype(int).tolist():
    try:
      image = Image.fromarray(decode(source.records[index]["image"]))
    except (UnreadableError, OSError):
      continue
    mask = Image.fromarray(mask_of(index)).convert("RGB").resize(image.size)
    tiles.append(np.concatenate([_tile(image), _tile(mask)], axis=1))
  if not tiles:
    raise UserError(f"{source.spec}: none of the images for the preview can be read; repair them")
  columns = min(4, len(tiles))
  tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
  rows = [np.concatenate(tiles[i:i + columns], axis=1) for i in range(0, len(tiles), columns)]
  return Image.fromarray(np.concatenate(rows))


def _tile(image: Image.Image) -> np.ndarray:
  sheet = Image.new("RGB", (_TILE, _TILE), (40, 40, 40))
  ratio = (_TILE - 4) / max(image.size)
  small = image.resize([max(1, round(side * ratio)) for side in image.size])
  sheet.paste(small, ((_TILE - small.width) // 2, (_TILE - small.height) // 2))
  return np.asarray(sheet)


def main() -> None:
  """The command: exit status 0, or 2 with one line for a mistake of the user's."""
  try:
    exiting(run, sys.argv[1:])
  except KeyboardInterrupt:
    print("interrupted; the same command goes on", file=sys.stderr)
    os._exit(130)  # without waiting for what the processes have begun


if __name__ == "__main__":
  main()
