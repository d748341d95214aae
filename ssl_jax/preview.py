"""`--preview out.png`: what a method is shown, drawn for a person."""

import os
import textwrap
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from ssl_jax import build, data
from ssl_jax.errors import UserError

ROWS = 6
COLUMNS = 9  # of images and views; fewer views leave room for more images
CELL = 1.3  # inches
DOTS = 120  # an inch


def run(config: Mapping[str, Any], path: str) -> None:
  """Draws every view of some training images, beside them, as a PNG; trains nothing.

  Each image is followed by its views, under their names and sizes, as they are before
  normalisation and before the method shuffles any. The images are drawn by the config's seed.

  Raises:
    UserError: The file cannot be written there, matplotlib is missing, or the config or its data
      are not right.
  """
  target = _checked(path)
  source = build.open_split(config, "train_split")
  parts = build.parts(config, source)
  names = tuple(build.training_views(config["views"]))  # in order, which jit would lose
  count = ROWS * max(1, COLUMNS // (1 + len(names)))
  few = data.sample(build.in_scenes(config, source), count, config["seed"])
  batch = next(iter(data.epoch(few, batch_size=len(few), canvas=parts.canvas)))
  valid = batch.pop("valid")
  views = jax.jit(parts.views)(jax.random.key(config["seed"]), batch)
  mean, std = (np.asarray(parts.meta["preprocessing"][name]) for name in ("mean", "std"))
  shown = {name: np.clip(np.asarray(views[name]) * std + mean, 0, 1)[valid] for name in names}
  title = (f"{config['method']['name']}, views {config['views']['preset']}, "
           f"of {source.spec} {source.split}")
  _write(target, _figure(title, batch["image"][valid], batch["size"][valid], shown))
  print(f"preview: {target}")


def _checked(path: str) -> epath.Path:
  target = epath.Path(path)
  if target.suffix != ".png":
    raise UserError(f"--preview={path} does not end in .png; name such a file")
  if not target.parent.is_dir():
    raise UserError(f"--preview={path}: there is no folder {target.parent}; make it first")
  try:
    import matplotlib  # noqa: F401
  except ImportError as error:
    raise UserError("--preview draws with matplotlib, which is not installed; "
                    "pip install 'ssl_jax[viz]'") from error
  return target


def _figure(title: str, images: np.ndarray, sizes: np.ndarray, views: Mapping[str, np.ndarray]):
  """Images u8[N, S, S, 3], whose shapes were `sizes` i32[N, 2], and after each its views."""
  from matplotlib.figure import Figure  # the one without a window

  block = 1 + len(views)
  blocks = min(max(1, COLUMNS // block), -(-len(images) // ROWS))
  rows = -(-len(images) // blocks)
  widths = ([1.0] * block + [0.15]) * blocks
  figure = Figure(figsize=(CELL * sum(widths), CELL * rows + 0.75), dpi=DOTS, layout="constrained")
  figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
  figure.suptitle(textwrap.fill(title, round(15 * CELL * sum(widths))), fontsize=9, x=0.01,
                  ha="left", weight="bold")
  axes = figure.subplots(rows, len(widths), squeeze=False, width_ratios=widths)
  for ax in axes.flat:
    ax.set_axis_off()
  for i, (image, (height, width)) in enumerate(zip(images, sizes, strict=True)):
    row, cells = i // blocks, axes[:, i % blocks * (block + 1):]
    # The canvas is square whatever the image was: its pixels were that much taller than wide.
    cells[row, 0].imshow(image, aspect=height / width)
    for column, (name, drawn) in enumerate(views.items(), start=1):
      cells[row, column].imshow(drawn[i])
      if row == 0:
        cells[0, column].set_title(f"{name}\n{drawn.shape[1]} px", fontsize=8)
  return figure


def _write(path: epath.Path, figure) -> None:
  """A reader finds the old file or the new one, never a part."""
  temporary = path.parent / f".{path.name}.tmp{os.getpid()}"
  with temporary.open("wb") as file:
    figure.savefig(file, format="png")
  temporary.replace(path)
