"""Decoding records onto canvases, in threads, with unreadable images replaced or left out."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ssl_jax.data.decoding import UnreadableError, mask_to_canvas, to_canvas
from ssl_jax.data.records import Record, Records
from ssl_jax.data.source import Source

_CHUNK = 32  # images a thread takes at a time: few enough to share, enough to ask for at once


class Images:
  """Canvases filled by threads, with what belongs to each.

  Attributes:
    image: u8[n,S,S,3], zeros where an image was unreadable and not replaced.
    size: i32[n,2], the (height, width) before the image was squashed.
    label: i32[n], -1 if none.
    index: i32[n], the record that was read: another than asked for if that was unreadable.
    mask: u8[n,S,S], the foregrounds, or None if they were not asked for.
    unreadable: The names of the images that could not be read, and why.
  """

  def __init__(self, count: int, canvas: int, masked: bool):
    self.image = np.zeros((count, canvas, canvas, 3), np.uint8)
    self.size = np.ones((count, 2), np.int32)
    self.label = np.full(count, -1, np.int32)
    self.index = np.full(count, -1, np.int32)
    self.mask = np.zeros((count, canvas, canvas), np.uint8) if masked else None
    self.unreadable: dict[str, str] = {}

  def named(self, *names: str) -> dict[str, np.ndarray]:
    """Some of the arrays by name, and the masks if there are any."""
    return {name: getattr(self, name) for name in (*names, "mask")
            if getattr(self, name) is not None}


def cpu_count() -> int:
  """The cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load(records: Records, indices: Sequence[int], canvas: int, pool: ThreadPoolExecutor, *,
         patience: int, masked: bool = False) -> Images:
  """Loads images by index.

  An unreadable image is replaced by the next readable one after it, which depends on the index
  alone, so that a run that is resumed sees what an uninterrupted one sees.

  Args:
    records: The records of N images.
    indices: Which to load.
    canvas: The side S of the square that they are squashed onto.
    pool: The threads that decode.
    patience: How many of the images after an unreadable one are tried in its place. Where none of
      them is readable either the index stays -1; 0 leaves every unreadable image out.
    masked: Whether the masks of the records are loaded too.
  """
  indices = [int(i) for i in indices]
  images = Images(len(indices), canvas, masked)

  def fill(start: int) -> None:
    chunk = indices[start:start + _CHUNK]
    for row, (index, record) in enumerate(zip(chunk, _fetch(records, chunk)), start):
      _fill_row(images, row, records, index, record, patience)

  for _ in pool.map(fill, range(0, len(indices), _CHUNK)):
    pass
  return images


def _fetch(records: Records, indices: list[int]) -> list[Record | None]:
  try:
    return records.__getitems__(indices)
  except Exception:  # one bad record must not take its neighbours with it: each is read by itself
    return [None] * len(indices)


def _fill_row(images: Images, row: int, records: Records, index: int, record: Record | None,
              patience: int) -> None:
  for tried in range(min(patience, len(records) - 1) + 1):
    here = (index + tried) % len(records)
    try:
      if tried or record is None:
        record = records[here]
      pixels, size = to_canvas(record["image"], images.image.shape[1])
      if images.mask is not None:
        images.mask[row] = mask_to_canvas(record["mask"], images.image.shape[1])
    except (UnreadableError, OSError, ValueError, RuntimeError) as error:
      images.unreadable[records.name(here)] = " ".join(str(error).split())
      continue
    images.image[row], images.size[row] = pixels, size
    images.label[row], images.index[row] = record["label"], here
    return


def resident_bytes(source: Source, canvas: int) -> int:
  """The size of what `load_all` returns, in bytes."""
  return len(source) * (canvas * canvas * (4 if source.masked else 3) + 4 + 8)


def load_all(source: Source, canvas: int, *, num_threads: int | None = None) -> dict:
  """Decodes a whole source, for a set that lives on the device.

  An unreadable image is replaced as in `load`, and is recorded in `source.skipped`.

  Returns:
    {"image": u8[N,S,S,3], "label": i32[N], "size": i32[N,2]}, and "mask": u8[N,S,S] if the source
    is masked.
  """
  with ThreadPoolExecutor(num_threads or cpu_count()) as pool:
    images = load(source.records, range(len(source)), canvas, pool, patience=source.skipped.limit,
                  masked=source.masked)
  for name, reason in sorted(images.unreadable.items()):
    source.skipped.add(name, reason)
  return images.named("image", "label", "size")
