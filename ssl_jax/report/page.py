"""A report as one HTML file that needs nothing else, and as Markdown."""

import os
from collections.abc import Sequence

import jinja2
from etils import epath

from ssl_jax import __version__
from ssl_jax.report import examples, sections
from ssl_jax.report.blocks import Block, Plot, Section, Strip, Table, Text, kind
from ssl_jax.report.reading import read

TEMPLATE = "page.html.j2"


def write_report(workdirs: Sequence[str], out: str, *, sets: Sequence[str] = (),
                 data_dir: str | None = None, seed: int = 0) -> tuple[epath.Path, epath.Path]:
  """Writes a report on encoders that the transfer suite has judged, side by side.

  Args:
    workdirs: The suite's workdirs, one an encoder.
    out: The HTML file; the Markdown goes beside it, with the tables and without images.
    sets: The sets whose images are shown; () is the first two.
    data_dir: Where tfds sets lie.
    seed: Draws the queries.

  Returns:
    The two files.

  Raises:
    UserError: A workdir holds no results of the suite, or has no such set.
  """
  judged = read(workdirs)
  shown = examples.shown_sets(judged, sets)
  parts = [sections.encoders(judged), sections.accuracy(judged), sections.ranking(judged),
           sections.places(judged), sections.calibration(judged),
           examples.neighbours(judged, shown, data_dir, seed),
           examples.errors(judged, shown, data_dir), sections.details(judged)]
  parts = [p for p in parts if p is not None and p.blocks]
  title = "Transfer of " + ", ".join(j.name for j in judged)
  files = epath.Path(out), epath.Path(out).with_suffix(".md")
  for path, text in zip(files, (html(title, parts), markdown(title, parts))):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.tmp{os.getpid()}"
    temporary.write_text(text)
    temporary.replace(path)
  return files


def html(title: str, parts: Sequence[Section]) -> str:
  """The page."""
  environment = jinja2.Environment(
      loader=jinja2.PackageLoader("ssl_jax", "report"), autoescape=True, trim_blocks=True,
      lstrip_blocks=True, undefined=jinja2.StrictUndefined)
  return environment.get_template(TEMPLATE).render(
      title=title, sections=parts, kind=kind, version=__version__)


def markdown(title: str, parts: Sequence[Section]) -> str:
  """The tables and texts; of plots and pictures, what they show."""
  lines = [f"# {title}", ""]
  for part in parts:
    lines += [f"## {part.title}", ""]
    for block in part.blocks:
      lines += [*_markdown(block), ""]
  return "\n".join(lines)


def _markdown(block: Block) -> list[str]:
  if isinstance(block, Text):
    return [block.text]
  if isinstance(block, Plot | Strip):
    return [f"*In the HTML file:* {block.caption}"] if block.caption else []
  assert isinstance(block, Table)
  align = ["---", *(["---" if block.words else "---:"] * (len(block.header) - 1))]
  rows = [[f"**{cell}**" if (i, k) in block.best else cell for k, cell in enumerate(row)]
          for i, row in enumerate(block.rows)]
  above = ": ".join(filter(None, (block.title and f"**{block.title}**", block.caption)))
  caption = [above, ""] if above else []
  return caption + ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |"
                    for row in (block.header, align, *rows)]
