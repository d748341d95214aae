"""Random access to images that are not decoded yet: arrays, and parts or sums of other records."""

import abc
import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np

# "image": encoded bytes or u8[H,W], u8[H,W,3]; "label": int, -1 if none; where the source knows the
# foreground, "mask": encoded bytes or u8[H,W].
Record = dict[str, Any]


class Records(abc.ABC):
  """What a source holds: N images by index, each with a name to call it by."""

  @abc.abstractmethod
  def __len__(self) -> int:
    """N."""

  @abc.abstractmethod
  def __getitem__(self, index: int) -> Record:
    """The record at an index from 0 to N - 1."""

  def __getitems__(self, indices: Sequence[int]) -> list[Record]:
    """Several records in one call, which ArrayRecord answers five times faster."""
    return [self[i] for i in indices]

  @abc.abstractmethod
  def name(self, index: int) -> str:
    """What to call a record in a message."""

  def classes(self, index: int) -> tuple[int, ...]:
    """The classes that an image shows: its label, or several where a set has several."""
    label = self[index]["label"]
    return (label,) if label >= 0 else ()


class ArrayRecords(Records):
  """Images u8[N,H,W] or u8[N,H,W,3] in memory, with labels i32[N] or None."""

  def __init__(self, images: np.ndarray, labels: np.ndarray | None, origin: str):
    self.images = images
    self.labels = labels
    self.origin = origin

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int) -> Record:
    return {"image": self.images[index],
            "label": -1 if self.labels is None else int(self.labels[index])}

  def name(self, index: int) -> str:
    return f"image {index} of {self.origin}"


class Chosen(Records):
  """Some records of other records, such as a range of them, in the order given."""

  def __init__(self, records: Records, indices: Sequence[int]):
    self.records = records
    self.indices = indices

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, index: int) -> Record:
    return self.records[self.indices[index]]

  def __getitems__(self, indices: Sequence[int]) -> list[Record]:
    return self.records.__getitems__([self.indices[i] for i in indices])

  def name(self, index: int) -> str:
    return self.records.name(self.indices[index])

  def classes(self, index: int) -> tuple[int, ...]:
    return self.records.classes(self.indices[index])


class Chain(Records):
  """Several records one after the other."""

  def __init__(self, parts: Sequence[Records]):
    self.parts = tuple(parts)
    self.ends = np.cumsum([len(p) for p in self.parts]).tolist()

  def __len__(self) -> int:
    return self.ends[-1]

  def _find(self, index: int) -> tuple[Records, int]:
    which = bisect.bisect_right(self.ends, index)
    return self.parts[which], index - (self.ends[which - 1] if which else 0)

  def __getitem__(self, index: int) -> Record:
    records, index = self._find(index)
    return records[index]

  def name(self, index: int) -> str:
    records, index = self._find(index)
    return records.name(index)

  def classes(self, index: int) -> tuple[int, ...]:
    records, index = self._find(index)
    return records.classes(index)
