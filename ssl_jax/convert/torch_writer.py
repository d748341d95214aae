"""PyTorch's zip format, written without PyTorch: a state_dict of plain tensors.

The pickle is put together from opcodes, as pickling by name would need PyTorch to be there. It asks
for nothing but what `torch.load(weights_only=True)` allows.
"""

import io
import os
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

STORAGES = {np.dtype(np.float32): "FloatStorage", np.dtype(np.int64): "LongStorage"}
ALIGNMENT = 64  # of storages in the file, as PyTorch writes them


def write_torch(path: str | os.PathLike, state: Mapping[str, np.ndarray]) -> None:
  """Writes arrays, f32 or i64, as `torch.save` writes an OrderedDict of CPU tensors."""
  arrays = {name: np.require(array, requirements="C") for name, array in state.items()}
  with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
    _member(archive, "archive/data.pkl", _program(arrays))
    _member(archive, "archive/byteorder", b"little")
    for key, array in enumerate(arrays.values()):
      _member(archive, f"archive/data/{key}", array.tobytes())
    _member(archive, "archive/version", b"3\n")


def _member(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
  """A member whose data begins at a multiple of 64 bytes, by way of an extra field."""
  info = zipfile.ZipInfo(name)
  start = archive.fp.tell() + 30 + len(name) + 4
  padding = -start % ALIGNMENT
  info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
  archive.writestr(info, data)


def _program(arrays: Mapping[str, np.ndarray]) -> bytes:
  out = io.BytesIO()
  write = out.write

  def name(module: str, attribute: str):
    write(b"c" + f"{module}\n{attribute}\n".encode())

  def text(value: str):
    data = value.encode()
    write(b"X" + struct.pack("<I", len(data)) + data)

  def integers(*values: int):
    write(b"(")
    for value in values:
      write(b"\x8a\x08" + struct.pack("<q", value))
    write(b"t")

  def ordered():
    name("collections", "OrderedDict")
    write(b")R")

  write(b"\x80\x02")
  ordered()
  write(b"(")
  for key, (tensor, array) in enumerate(arrays.items()):
    text(tensor)
    name("torch._utils", "_rebuild_tensor_v2")
    write(b"((")  # its arguments, of which the first is a persistent id
    text("storage")
    name("torch", STORAGES[array.dtype])
    text(str(key))
    text("cpu")
    write(b"\x8a\x08" + struct.pack("<q", array.size) + b"tQ")
    write(b"\x8a\x01\x00")  # the offset
    integers(*array.shape)
    integers(*(stride // array.itemsize for stride in array.strides))
    write(b"\x89")  # no gradient
    ordered()
    write(b"tR")
  write(b"u.")
  return out.getvalue()
