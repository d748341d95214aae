"""Published figures of 14 encoders of one size (ResNet-50), and how they correlate.

The tables lie in `published/`, one file a table with a row per encoder, as printed; `columns.csv`
says of each column what it is and where it was printed. All are of Ericsson et al. 2020, "How Well
Do Self-Supervised Models Transfer?", arXiv:2011.13377v2.
"""

import csv
import functools
import importlib.resources
from typing import NamedTuple

import numpy as np

from ssl_jax.errors import UserError, nearest
from ssl_jax.evaluate.correlation import logit, pearson, ranks, spearman

FOLDER = importlib.resources.files("ssl_jax.evaluate") / "published"

# What the encoders are ranked by over eight kinds of tasks (figure 7): plain means over the sets of
# a setting, of which dense tasks have one column each.
EIGHT = (("many-shot linear", None), ("many-shot fine-tuning", None), ("20-shot", None),
         ("20-shot, other domains", None), ("detection, frozen", "VOC_frozen_AP50"),
         ("detection, fine-tuned", "VOC_finetune_AP50"), ("surface normals", "NYUv2_mean_err"),
         ("segmentation", "ADE20K_mIoU"))


class Column(NamedTuple):
  """One printed column.

  Attributes:
    table: The file it lies in.
    name: Its heading.
    setting: The group of columns that the paper averages it with.
    set: The data set's name in the transfer suite, "" where it has none.
    protocol: The protocol's name in the transfer suite, "" where it has none.
    whole: What stands for all, 100 or 1; None for what is no share, such as an angle.
    higher_is_better: Which direction is good.
    source: Where it was printed.
    values: f64[14], in the order of `models()`.
  """

  table: str
  name: str
  setting: str
  set: str
  protocol: str
  whole: float | None
  higher_is_better: bool
  source: str
  values: np.ndarray

  def scale(self, values: np.ndarray | float) -> np.ndarray:
    """Values as they are correlated: logits of shares, everything else unchanged."""
    values = np.asarray(values, np.float64)
    return values if self.whole is None else logit(values / self.whole)


@functools.cache
def _table(name: str) -> tuple[dict[str, str], ...]:
  return tuple(csv.DictReader((FOLDER / f"{name}.csv").read_text().splitlines()))


@functools.cache
def models() -> tuple[str, ...]:
  """The names of the 14 encoders; the last is the supervised one."""
  return tuple(row["model"] for row in _table("imagenet"))


@functools.cache
def columns() -> tuple[Column, ...]:
  """All published columns; the first is the top-1 accuracy on ImageNet."""
  found = []
  for row in _table("columns"):
    values = {r["model"]: float(r[row["column"]]) for r in _table(row["table"])}
    found.append(Column(
        row["table"], row["column"], row["setting"], row["set"], row["protocol"],
        float(row["whole"]) if row["whole"] else None, row["better"] == "higher", row["source"],
        np.array([values[m] for m in models()])))
  return tuple(found)


def column(table: str, name: str) -> Column:
  """The column of a table by its heading. Raises a UserError if there is none."""
  known = {f"{c.table}/{c.name}": c for c in columns()}
  if f"{table}/{name}" not in known:
    raise UserError(f"no published column {table}/{name}; {nearest(f'{table}/{name}', known)}")
  return known[f"{table}/{name}"]


def correlation(of: Column, to: Column | None = None) -> tuple[float, float]:
  """(Pearson's r on the columns' scales, Spearman's rho) of a column, by default to ImageNet.

  Over all 14 encoders, the supervised one included, as in the last row of table 9.
  """
  x, y = (c.scale(c.values) for c in (to or columns()[0], of))
  return pearson(x, y), spearman(x, y)


def setting_mean(setting: str) -> np.ndarray:
  """Mean logits f64[14] over the sets of a setting: what figure 1 of the paper correlates."""
  return np.mean([c.scale(c.values) for c in columns() if c.setting == setting], axis=0)


def eight_ranks() -> np.ndarray:
  """Ranks f64[8, 14] of the encoders, 1 the best, in the settings of `EIGHT`."""
  rows = []
  for setting, only in EIGHT:
    chosen = [c for c in columns() if c.setting == setting and only in (None, c.name)]
    mean = np.mean([c.values for c in chosen], axis=0)
    rows.append(ranks(mean, higher_is_better=chosen[0].higher_is_better))
  return np.stack(rows)
