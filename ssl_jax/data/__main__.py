"""`python -m ssl_jax.data inspect SPEC`: what is in a set of images, before training on it."""

import argparse
import sys

import numpy as np
from etils import epath
from rich.console import Console
from rich.table import Table

from ssl_jax.data.source import SPECS, Source, open_source
from ssl_jax.data.survey import Survey, survey
from ssl_jax.errors import UserError, exiting
from ssl_jax.logbook import write_json

SHOWN = 8  # lines of a list that can be long


def figures(source: Source, seen: Survey) -> dict:
  """What `inspect` prints, as one JSON object."""
  height, width = seen.size.T if len(seen.size) else np.zeros((2, 1), int)
  shorter = np.minimum(height, width)
  labels = {name: int((seen.label == i).sum()) for i, name in enumerate(source.class_names)}
  return {
      "spec": source.spec, "split": source.split, "images": len(source),
      "looked_at": len(seen.looked) + len(seen.unreadable), "classes": labels,
      "shorter_side": {"min": int(shorter.min()), "median": int(np.median(shorter)),
                       "max": int(shorter.max())},
      "aspect": {"min": round(float((width / np.maximum(height, 1)).min()), 2),
                 "max": round(float((width / np.maximum(height, 1)).max()), 2)},
      "grey": int(seen.grey.sum()), "mean": seen.mean.round(4).tolist(),
      "std": seen.std.round(4).tolist(), "unreadable": seen.unreadable,
      "duplicates": [[source.records.name(i) for i in group] for group in seen.duplicates],
      "similar": [[source.records.name(i) for i in group] for group in seen.similar]}


def lines(told: dict) -> list[str]:
  """The figures for people."""
  side, aspect = told["shorter_side"], told["aspect"]
  found = [f"{told['spec']} {told['split']}: {told['images']:,} images, "
           f"{told['looked_at']:,} of them looked at",
           f"shorter side {side['min']} to {side['max']} pixels, median {side['median']}; "
           f"width / height {aspect['min']} to {aspect['max']}",
           f"grey: {told['grey']:,}; mean {tuple(told['mean'])}, std {tuple(told['std'])}"]
  for name, say in (("unreadable", "unreadable"), ("duplicates", "groups of equal images"),
                    ("similar", "groups that look alike")):
    found.append(f"{say}: {len(told[name]):,}")
    rows = [f"{k}: {v}" for k, v in told[name].items()] if name == "unreadable" else [
        " = ".join(group) for group in told[name]]
    found += [f"  {row}" for row in rows[:SHOWN]]
    if len(rows) > SHOWN:
      found.append(f"  and {len(rows) - SHOWN:,} more (--json FILE has all)")
  if not told["classes"]:
    found.append("no labels: for classes, give each a folder, or a list with a label column")
  return found


def class_table(classes: dict[str, int]) -> Table:
  table = Table(title="images looked at, by class")
  table.add_column("class")
  table.add_column("images", justify="right")
  ordered = sorted(classes.items(), key=lambda item: -item[1])
  shown = ordered if len(ordered) <= 2 * SHOWN else ordered[:SHOWN] + ordered[-SHOWN:]
  for position, (name, number) in enumerate(shown):
    if position == SHOWN and len(shown) < len(ordered):
      table.add_row(f"... {len(ordered) - len(shown)} more", "")
    table.add_row(name, f"{number:,}")
  return table


def run(argv: list[str]) -> None:
  parser = argparse.ArgumentParser(prog="python -m ssl_jax.data", description=__doc__)
  parser.add_argument("action", choices=["inspect"])
  parser.add_argument("spec", help=SPECS)
  parser.add_argument("--split", default="train")
  parser.add_argument("--data_dir", help="where tfds sets lie")
  parser.add_argument("--limit", type=int, default=2000, help="how many images are decoded")
  parser.add_argument("--json", help="a file for the figures, and for all names")
  arguments = parser.parse_args(argv)
  if arguments.limit < 1:
    raise UserError(f"--limit={arguments.limit} must be above 0")
  source = open_source(arguments.spec, arguments.split, data_dir=arguments.data_dir)
  told = figures(source, survey(source, arguments.limit))
  console = Console(highlight=False, soft_wrap=True)
  for line in lines(told):
    console.print(line, markup=False)
  if told["classes"]:
    console.print(class_table(told["classes"]))
  if arguments.json:
    write_json(epath.Path(arguments.json), told)
  console.print(f"next: python -m ssl_jax.main --config configs/my_images.py "
                f"--config.data={arguments.spec}", markup=False)


def main() -> None:
  """The command: exit status 0, or 2 with one line for a mistake of the user's."""
  exiting(run, sys.argv[1:])


if __name__ == "__main__":
  main()
