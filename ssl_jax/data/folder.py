"""Image files in folders, with or without labels.

The classes are the folders directly below the root (or below the split), in the order of their
names; files deeper down belong to the class above them. Where images lie in the root itself, or in
fewer than two folders, the set is unlabelled: every label is -1.

Folders named train, val, validation or test are splits if no other folder lies beside them, or if
train and another of them do; otherwise they are classes like any other, and all files are "train".
All splits share one list of classes, so a class that a split lacks shifts nothing.

The order of the files follows a digest of their names, so `train[:10%]` is a fair sample of all
classes and not the first of them.
"""

import functools
import hashlib
import os
import pathlib

import numpy as np

from ssl_jax.data.records import Record, Records
from ssl_jax.data.shelf import Shelf
from ssl_jax.errors import UserError

EXTENSIONS = (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".jpe", ".pbm", ".pgm", ".png", ".ppm",
              ".tif", ".tiff", ".webp")
SPLITS = ("train", "val", "validation", "test")


class FolderRecords(Records):
  """Files below a folder; the names are kept as one block of bytes, for sets of millions."""

  def __init__(self, root: str, names: list[str], labels: np.ndarray):
    encoded = [os.fsencode(name) for name in names]
    self.root = root
    self.labels = labels
    self._block = b"".join(encoded)
    self._ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)

  def __len__(self) -> int:
    return len(self._ends)

  def name(self, index: int) -> str:
    start = self._ends[index - 1] if index else 0
    return os.path.join(self.root, os.fsdecode(self._block[start:self._ends[index]]))

  def __getitem__(self, index: int) -> Record:
    return {"image": pathlib.Path(self.name(index)).read_bytes(), "label": int(self.labels[index])}

  def classes(self, index: int) -> tuple[int, ...]:
    label = int(self.labels[index])
    return (label,) if label >= 0 else ()


def open_folder(path: str) -> Shelf:
  """Opens a folder of images by the rules of this module's docstring."""
  root = os.path.expanduser(path)
  if not os.path.isdir(root):
    raise UserError(f"folder:{path}: there is no such folder; give the path of one with images")
  try:
    return _open(root)
  except OSError as error:
    raise UserError(f"folder:{path} cannot be listed ({error}); make it readable") from error


def _open(root: str) -> Shelf:
  folders = _folders(root)
  splits = [f for f in folders if f in SPLITS]
  are_splits = splits and (len(splits) == len(folders) or ("train" in splits and len(splits) > 1))
  roots = {s: os.path.join(root, s) for s in splits} if are_splits else {"train": root}
  classes = sorted(set().union(*(_folders(r) for r in roots.values())))
  classes = classes if len(classes) > 1 else []
  if any(_is_image(e) for r in roots.values() for e in os.scandir(r)):
    classes = []
  return Shelf(
      splits={split: functools.partial(_read, folder, classes) for split, folder in roots.items()},
      class_names=tuple(classes),
      image_shape=None)


def _read(root: str, classes: list[str]) -> FolderRecords:
  try:
    names = _walk(root)
  except OSError as error:
    raise UserError(f"folder:{root} cannot be listed ({error}); make it readable") from error
  found = sorted(names, key=lambda name: (
      hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), name))
  if not found:
    raise UserError(f"folder:{root} holds no image; put some there: files ending in "
                    f"{' '.join(EXTENSIONS)} are read")
  number = {name: i for i, name in enumerate(classes)}
  labels = [number.get(name.split(os.sep, 1)[0], -1) for name in found]
  return FolderRecords(root, found, np.array(labels, np.int32))


def _folders(root: str) -> list[str]:
  return sorted(e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith("."))


def _is_image(entry: os.DirEntry) -> bool:
  # A broken link counts: it is named when it cannot be read, and not left out in silence.
  return (entry.name.lower().endswith(EXTENSIONS) and not entry.name.startswith(".")
          and not entry.is_dir())


def _walk(root: str) -> list[str]:
  """The images below a folder, relative to it. Links are followed, but never in a circle."""
  found, waiting = [], [("", frozenset())]
  while waiting:
    below, above = waiting.pop()
    here = os.path.join(root, below)
    real = os.path.realpath(here)
    if real in above:
      continue
    for entry in os.scandir(here):
      if _is_image(entry):
        found.append(os.path.join(below, entry.name))
      elif entry.is_dir() and not entry.name.startswith("."):
        waiting.append((os.path.join(below, entry.name), above | {real}))
  return found
