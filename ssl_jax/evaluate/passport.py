"""An encoder's place among the published ones, on every column that it has a figure for."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ssl_jax.evaluate.published import Column, columns

IMAGENET = ("imagenet", "linear")


class Entry(NamedTuple):
  """An encoder's place in one column.

  Attributes:
    column: The published figures.
    value: The encoder's.
    rank: From 1 to 15: one more than there are published encoders that are better.
    expected: What its ImageNet accuracy lets one expect: the value at that accuracy on the line
      through the published encoders, on the column's scale; None without an ImageNet figure.
  """

  column: Column
  value: float
  rank: int
  expected: float | None


def passport(figures: Mapping[tuple[str, str], float]) -> list[Entry]:
  """Ranks an encoder among the 14 published ones.

  A place means something where the figure was got as the published ones were: the protocol, the
  split and the metric of the set, ImageNet pretraining, 224 pixels. It is a place among those
  encoders, not a test: differences of a few tenths of a percent are within their noise.

  Args:
    figures: (set, protocol) -> percent, as the transfer suite names them.

  Returns:
    An entry per published column that has a figure, in the order of the tables; [] if none has.
  """
  imagenet = figures.get(IMAGENET)
  entries = []
  for column in columns():
    value = figures.get((column.set, column.protocol)) if column.set else None
    if value is None:
      continue
    better = column.values > value if column.higher_is_better else column.values < value
    expected = None
    if imagenet is not None and (column.set, column.protocol) != IMAGENET:
      expected = expectation(column, imagenet)
    entries.append(Entry(column, float(value), 1 + int(better.sum()), expected))
  return entries


def expectation(column: Column, imagenet: float) -> float:
  """The value of a column at an ImageNet accuracy in percent, by least squares on its scale."""
  x = columns()[0].scale(columns()[0].values)
  slope, offset = np.polyfit(x, column.scale(column.values), 1)
  y = slope * float(columns()[0].scale(imagenet)) + offset
  return float(y if column.whole is None else column.whole / (1 + np.exp(-y)))
