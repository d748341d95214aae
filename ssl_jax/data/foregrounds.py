"""Images together with their foregrounds, for scenes that need to know what is in front."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import binary_fill_holes

from ssl_jax.data.decoding import decode
from ssl_jax.data.masks import open_masks
from ssl_jax.data.records import Record, Records
from ssl_jax.data.source import Source
from ssl_jax.errors import UserError

THRESHOLD = "threshold"
PLAIN = 16  # of 255: how far a plain background's colour may be from that of the border


class Masked(Records):
  """Records with a mask each, from a function of (index, record)."""

  def __init__(self, records: Records, mask: Callable[[int, Record], np.ndarray]):
    self.records = records
    self.mask = mask

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> Record:
    record = self.records[index]
    return record | {"mask": self.mask(index, record)}

  def __getitems__(self, indices: Sequence[int]) -> list[Record]:
    return [record | {"mask": self.mask(index, record)}
            for index, record in zip(indices, self.records.__getitems__(indices))]

  def name(self, index: int) -> str:
    return self.records.name(index)


def with_masks(source: Source, masks: str = "") -> Source:
  """The same images, whose batches hold `mask` u8[b,S,S] beside `image`.

  Args:
    source: The images.
    masks: A folder that `python -m ssl_jax.saliency` wrote of these images; or "threshold", for
      images on a plain background: see `stands_out`; or "" for masks that the records hold, as
      those of tfds:composed do.

  Raises:
    UserError: The images have no masks, or the folder's are of others.
  """
  if masks == THRESHOLD:
    records = Masked(source.records, _threshold)
  elif masks:
    records = Masked(source.records, functools.partial(_stored, open_masks(masks, source)))
  elif "mask" in source.records[0]:
    records = source.records
  else:
    raise UserError(
        f"config.scene needs the foregrounds of {source.spec} {source.split}, which has none; make "
        f"them with `python -m ssl_jax.saliency --data {source.spec} --split '{source.split}' "
        "--out DIR` and set config.masks=DIR, or config.masks=threshold for images on a plain "
        "background")
  return dataclasses.replace(source, records=records, masked=True)


def stands_out(pixels: np.ndarray) -> np.ndarray:
  """What differs from a plain background: u8[H,W,3] -> u8[H,W], 0 or 255.

  A pixel stands out if a channel is more than `PLAIN` away from its median along the image's
  border; holes are filled.
  """
  border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
  away = np.abs(pixels - np.median(border, axis=0)).max(-1) > PLAIN
  return binary_fill_holes(away).astype(np.uint8) * 255


def _threshold(index: int, record: Record) -> np.ndarray:
  del index
  return stands_out(decode(record["image"]))


def _stored(masks: Sequence[np.ndarray], index: int, record: Record) -> np.ndarray:
  del record
  return masks[index]
