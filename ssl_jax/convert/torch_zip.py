"""PyTorch's files since 1.6: a zip of a pickle and of one uncompressed member per storage.

The pickle names storages by keys; a tensor is a view of one. Nothing is copied here: tensors are
numpy views of the file, mapped into memory, and are read when they are looked at.
"""

import io
import mmap
import os
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

from ssl_jax.convert.pickles import settled, unpickle
from ssl_jax.errors import UserError

LARGEST_PICKLE = 256 << 20  # bytes of names and shapes; published ones have less than 10 MiB

STORAGES = {
    "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32,
    "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8,
    "BoolStorage": np.bool_}


class StorageType:
  """A class of storage, of which the pickle only gives the name."""

  def __init__(self, dtype):
    self.dtype = np.dtype(dtype)


def tensor(storage: np.ndarray, offset: int, size, stride, *_) -> np.ndarray:
  """`torch._utils._rebuild_tensor_v2`: a view of a storage; offset and strides count elements.

  Raises:
    ValueError: The view would leave the storage.
  """
  size, stride = tuple(map(int, size)), tuple(map(int, stride))
  if offset < 0 or min((*size, *stride, 0)) < 0 or len(size) != len(stride):
    raise ValueError(f"a tensor of shape {size} and strides {stride}")
  last = offset + sum((n - 1) * s for n, s in zip(size, stride)) if 0 not in size else offset - 1
  if last >= len(storage):
    raise ValueError(f"a tensor of shape {size} in a storage of {len(storage)} numbers")
  bytes_each = storage.dtype.itemsize
  return np.lib.stride_tricks.as_strided(
      storage[offset:], size, [s * bytes_each for s in stride], writeable=False)


MADE = {
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._tensor._rebuild_from_type_v2": lambda rebuild, kind, arguments, _: rebuild(*arguments),
    **{f"torch.{place}{name}": StorageType(dtype) for name, dtype in STORAGES.items()
       for place in ("", "cuda.")},
}


def storage_of(pid: Any, where: str) -> tuple[np.dtype, str, int]:
  """(dtype, key, count) of ("storage", type, key, device, count, ...), a persistent id."""
  if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
    raise UserError(f"{where} holds a whole module and not its tensors; have its state_dict() "
                    "saved instead")
  if not isinstance(pid[1], StorageType):
    raise UserError(f"{where} holds a storage of a kind that is not known; save it as float32")
  return pid[1].dtype, str(pid[2]), int(pid[4])


def read_torch_zip(path: str | os.PathLike) -> dict[str, Any]:
  """What `torch.load` would give, with numpy views of the file for tensors.

  Raises:
    UserError: The file is damaged, or asks for what is not allowed.
  """
  where = str(path)
  try:
    with zipfile.ZipFile(path) as archive:
      members = {info.filename: info for info in archive.infolist()}
      name = next(n for n in members if n.endswith("/data.pkl"))
      if members[name].file_size > LARGEST_PICKLE:
        raise UserError(f"{where} claims {members[name].file_size:,} bytes of names and shapes; it "
                        "is no checkpoint")
      program = archive.read(name)
      order = members.get(name.replace("data.pkl", "byteorder"))
      if order and archive.read(order) != b"little":
        raise UserError(f"{where} was written on a big-endian machine; save it on another")
  except (zipfile.BadZipFile, StopIteration, EOFError, OSError, NotImplementedError) as error:
    raise UserError(f"{where} is not a whole zip file of PyTorch ({error or type(error).__name__})"
                    "; fetch it again") from error
  folder = name.removesuffix("data.pkl")
  storages: dict[str, np.ndarray] = {}
  with open(path, "rb") as file:
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

  def storage(pid):
    dtype, key, count = storage_of(pid, where)
    if key not in storages:
      storages[key] = np.frombuffer(content, dtype, count, _start(
          content, members.get(f"{folder}data/{key}"), count * dtype.itemsize))
    return storages[key]

  return settled(unpickle(io.BytesIO(program), where, made=MADE, persistent=storage))


def _start(content: mmap.mmap, info: zipfile.ZipInfo | None, size: int) -> int:
  """Where the bytes of a member begin, of which there must be at least `size`."""
  if info is None or info.compress_type != zipfile.ZIP_STORED or info.file_size < size:
    raise ValueError("a storage is missing, compressed or too short")
  header = info.header_offset  # APPNOTE 4.3.7: 30 bytes, then the name and the extra field
  lengths = content[header + 26:header + 30]
  return header + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
