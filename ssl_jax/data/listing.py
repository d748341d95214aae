"""Image files named by a list: a text file of paths, or a CSV with labels and splits.

A `.txt` file holds one path a line. A `.csv` or `.tsv` file has a header: the column `path` (or
`file`, `filename`, `image`) and, if there are any, `label` (or `class`) and `split`; other columns
are not read. Paths are relative to the list's own folder. Labels are names, numbered in the order
of the names, or of the numbers where all are whole numbers. Without a split column all files are
"train".
"""

import csv
import functools
import os

import numpy as np

from ssl_jax.data.folder import FolderRecords
from ssl_jax.data.shelf import Shelf
from ssl_jax.errors import UserError

COLUMNS = {"path": ("path", "file", "filename", "image"), "label": ("label", "class"),
           "split": ("split",)}


def open_list(path: str) -> Shelf:
  """Opens a list of images by the rules of this module's docstring."""
  name = os.path.expanduser(path)
  if not os.path.isfile(name):
    raise UserError(f"list:{path}: there is no such file; give a .txt, .csv or .tsv of image paths")
  try:
    with open(name, encoding="utf-8-sig", newline="") as file:
      rows = _table(file, path) if name.endswith((".csv", ".tsv")) else [
          {"path": line.strip()} for line in file if line.strip()]
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise UserError(f"list:{path} cannot be read ({error}); save it as UTF-8 text") from error
  rows = [row for row in rows if row["path"]]
  if not rows:
    raise UserError(f"list:{path} names no image; write one path a line")
  classes = _classes({row["label"] for row in rows if row.get("label")})
  number = {label: i for i, label in enumerate(classes)}
  splits = {}
  for row in rows:
    splits.setdefault(row.get("split") or "train", []).append(
        (row["path"], number.get(row.get("label"), -1)))
  root = os.path.dirname(os.path.abspath(name))
  return Shelf(splits={split: functools.partial(_records, root, found)
                       for split, found in splits.items()},
               class_names=tuple(classes), image_shape=None)


def _table(file, path: str) -> list[dict[str, str]]:
  reader = csv.DictReader(file, delimiter="\t" if path.endswith(".tsv") else ",")
  header = {(column or "").strip().lower(): column for column in reader.fieldnames or ()}
  found = {field: next((header[name] for name in names if name in header), None)
           for field, names in COLUMNS.items()}
  if found["path"] is None:
    raise UserError(f"list:{path} has the columns {', '.join(header) or 'none'}; name the one with "
                    "the files 'path'")
  return [{field: (row[column] or "").strip() for field, column in found.items() if column}
          for row in reader]


def _classes(labels: set[str]) -> list[str]:
  if len(labels) < 2:
    return []
  return sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)


def _records(root: str, found: list[tuple[str, int]]) -> FolderRecords:
  return FolderRecords(root, [name for name, _ in found],
                       np.array([label for _, label in found], np.int32))
