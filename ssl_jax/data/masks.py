"""Foreground masks of a source's images, one for each, in a folder of their own.

The folder holds `meta.json`, which says of which images the masks are and how they were made, and
the masks as PNG in the order of the source, in parts `masks-00000-of-00042.array_record`, ... A
part is written whole or not at all, so the folder of a run that was interrupted, at whatever
moment, is a folder with parts still missing, and `begin` goes on with it.
"""

import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ssl_jax.data.source import Source
from ssl_jax.errors import UserError

META = "meta.json"
_LEAST_PART = 64  # masks of a part: what an interruption may cost,
_MOST_PARTS = 1000  # unless that makes more files than a folder should hold
_IDENTITY = ("fingerprint", "split", "count", "made")  # what must agree to go on


class _File(NamedTuple):
  """What ArrayRecord wants to know of a file so as not to open it before it is read."""

  filename: str
  skip: int
  take: int
  examples_in_shard: int


@dataclasses.dataclass(frozen=True)
class Parts:
  """The files of a folder of masks, written or not.

  Attributes:
    path: The folder.
    count: N, the masks in all.
  """

  path: pathlib.Path
  count: int

  @property
  def _per_part(self) -> int:
    return max(_LEAST_PART, -(-self.count // _MOST_PARTS))

  def __len__(self) -> int:
    return -(-self.count // self._per_part)

  def span(self, part: int) -> range:
    """The indices of the images whose masks a part holds."""
    return range(part * self._per_part, min((part + 1) * self._per_part, self.count))

  def file(self, part: int) -> pathlib.Path:
    return self.path / f"masks-{part:05d}-of-{len(self):05d}.array_record"

  def missing(self) -> list[int]:
    """The parts that are still to be written."""
    return [part for part in range(len(self)) if not self.file(part).exists()]

  def write(self, part: int, masks: Iterable[np.ndarray]) -> None:
    """Writes one part: masks u8[H,W], one for each index of its span, in order."""
    from array_record.python.array_record_module import ArrayRecordWriter
    file = self.file(part)
    temporary = file.with_name(f".{file.name}.tmp{os.getpid()}")
    writer = ArrayRecordWriter(str(temporary), "group_size:1")  # which is what random access wants
    written = 0
    try:
      for mask in masks:
        writer.write(_encode(mask))
        written += 1
    finally:
      writer.close()
      if written != len(self.span(part)):
        temporary.unlink()
    if written != len(self.span(part)):
      raise ValueError(f"{written} masks for the {len(self.span(part))} images of {file.name}")
    temporary.replace(file)

  def tidy(self) -> None:
    """Removes what interrupted writers left; for when nobody writes."""
    for leftover in self.path.glob(".*.tmp*"):
      leftover.unlink(missing_ok=True)


class Masks(Sequence):
  """The masks of a source: `masks[i]` is u8[H,W], 255 foreground, of image i's own size.

  Random access from any thread; it can travel to a worker process. The mask of an image that could
  not be read is one black pixel.
  """

  def __init__(self, parts: Parts):
    from array_record.python.array_record_data_source import ArrayRecordDataSource
    self.parts = parts
    self._records = ArrayRecordDataSource([
        _File(str(parts.file(p)), 0, len(parts.span(p)), len(parts.span(p)))
        for p in range(len(parts))])

  def __len__(self) -> int:
    return self.parts.count

  def __getitem__(self, index: int) -> np.ndarray:
    if not 0 <= index < len(self):
      raise IndexError(f"mask {index} of {len(self)}")
    return np.asarray(Image.open(io.BytesIO(self._records[index])))


def begin(path: str | os.PathLike, source: Source, made: dict[str, Any],
          versions: dict[str, str]) -> Parts:
  """Starts a folder of masks, or goes on with one.

  Args:
    path: The folder; it is made.
    source: The images.
    made: How the masks are made: all that decides their pixels.
    versions: Of the packages that make them; kept, not compared.

  Raises:
    UserError: The folder holds something else, or cannot be written.
  """
  folder = pathlib.Path(path).expanduser()
  meta = {"spec": source.spec, "split": source.split, "fingerprint": source.fingerprint,
          "count": len(source), "made": made, "versions": versions}
  try:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / META).exists():
      if foreign := sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")):
        raise UserError(f"{path} holds {foreign[0]!r} and no masks; name a new folder")
      temporary = folder / f".{META}.tmp{os.getpid()}"
      temporary.write_text(json.dumps(meta, indent=2) + "\n")
      temporary.replace(folder / META)
      return Parts(folder, len(source))
  except OSError as error:
    raise UserError(f"{path} cannot be written ({error.strerror}); name another folder") from error
  there = read_meta(folder)
  for key in _IDENTITY:
    if there[key] != meta[key]:
      raise UserError(f"{path} holds other masks: {key} was {there[key]!r} and is now "
                      f"{meta[key]!r}; name a new folder, or ask for what it holds")
  return Parts(folder, len(source))


def read_meta(path: str | os.PathLike) -> dict[str, Any]:
  """What `meta.json` of a folder of masks says.

  Raises:
    UserError: There is none, or it is not one.
  """
  file = pathlib.Path(path).expanduser() / META
  try:
    meta = json.loads(file.read_text())
    lacking = [key for key in (*_IDENTITY, "spec") if key not in meta]
  except (OSError, ValueError, TypeError) as error:
    raise UserError(f"masks {path}: {META} is missing or broken; make them with "
                    f"`python -m ssl_jax.saliency --data SPEC --split SPLIT --out {path}`"
                    ) from error
  if lacking:
    raise UserError(f"masks {path}: {META} lacks {', '.join(lacking)}; it was not written by "
                    "`python -m ssl_jax.saliency`: make the masks anew")
  return meta


def open_masks(path: str | os.PathLike, source: Source) -> Masks:
  """Opens the masks of a source.

  Args:
    path: The folder that `python -m ssl_jax.saliency` wrote.
    source: The images, which must be those that the masks were made of.

  Returns:
    `masks[i]`, u8[H,W], for every i of the source.

  Raises:
    UserError: There are no masks, not all of them, or they are of other images.
  """
  meta = read_meta(path)
  again = f"`python -m ssl_jax.saliency --data {source.spec} --split '{source.split}'`"
  if meta["fingerprint"] != source.fingerprint:
    raise UserError(f"masks {path} are of {meta['fingerprint']}, but the images are "
                    f"{source.fingerprint}; make masks of these with {again}")
  parts = Parts(pathlib.Path(path).expanduser(), meta["count"])
  if missing := parts.missing():
    raise UserError(f"masks {path}: {len(missing)} of {len(parts)} parts are missing; finish them "
                    f"with {again} and the options that began them")
  return Masks(parts)


def _encode(mask: np.ndarray) -> bytes:
  if mask.dtype != np.uint8 or mask.ndim != 2:
    raise ValueError(f"a mask is u8[H,W], not {mask.dtype}{list(mask.shape)}")
  out = io.BytesIO()
  Image.fromarray(mask).save(out, "PNG", compress_level=3)  # four times as fast as the default 6
  return out.getvalue()
