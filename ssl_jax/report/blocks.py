"""What a report is made of; `page` writes it as HTML and as Markdown."""

from collections.abc import Sequence
from typing import NamedTuple


class Text(NamedTuple):
  """A paragraph."""

  text: str


class Table(NamedTuple):
  """A table; the first column names the rows, the others are numbers unless `words`."""

  caption: str
  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  best: frozenset[tuple[int, int]] = frozenset()  # (row, column) of cells that stand out
  words: bool = False
  title: str = ""


class Plot(NamedTuple):
  """A figure."""

  svg: str
  caption: str


class Picture(NamedTuple):
  """A small image with a line below; `right` says whether it is a hit, None that it is neither."""

  uri: str
  text: str
  right: bool | None = None


class Strip(NamedTuple):
  """Rows of pictures, each with a name."""

  caption: str
  rows: Sequence[tuple[str, Sequence[Picture]]]


Block = Text | Table | Plot | Strip


class Section(NamedTuple):
  """A heading and what stands below it."""

  title: str
  blocks: Sequence[Block]

  @property
  def anchor(self) -> str:
    return self.title.lower().replace(" ", "-")


def kind(block: Block) -> str:
  """"text", "table", "plot" or "strip"."""
  return type(block).__name__.lower()
