"""Files that hold named arrays and nothing else: safetensors and npz.

Ours hold the description of the encoder as well, as JSON: in safetensors' metadata, or in the array
`__meta__`.
"""

import json
import math
import mmap
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from ssl_jax.errors import UserError

DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
          "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8,
          "BOOL": np.bool_}
META = "__meta__"
KEY = "ssl_jax"  # in safetensors' metadata

Named = tuple[dict[str, np.ndarray], dict[str, Any] | None]  # arrays, description or None


def read_safetensors(path: str | os.PathLike) -> Named:
  """The tensors of a safetensors file as views of it, and our description of them if it has one.

  github.com/huggingface/safetensors, README.md: the length of a header, the header as JSON, the
  tensors. Views take half the memory of copies, which is why this is not left to its library.
  """
  try:
    with open(path, "rb") as file:
      content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(content[:8], "little")
    if start > len(content):
      raise ValueError(f"a header of {start - 8:,} bytes in {len(content):,}")
    header = json.loads(content[8:start])
    meta = header.pop("__metadata__", {}).get(KEY)
    arrays = {}
    for name, entry in header.items():
      dtype, (first, last) = np.dtype(DTYPES[entry["dtype"]]), entry["data_offsets"]
      count = math.prod(entry["shape"])
      if not 0 <= first <= last <= len(content) - start or last - first != count * dtype.itemsize:
        raise ValueError(f"{name} of shape {entry['shape']} at {first:,} to {last:,}")
      arrays[name] = np.frombuffer(content, dtype, count, start + first).reshape(entry["shape"])
    return arrays, meta and json.loads(meta)
  except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
    raise UserError(f"{path} is not a whole safetensors file ({_line(error)}); fetch it again"
                    ) from error


def read_npz(path: str | os.PathLike) -> Named:
  """The arrays of an npz file, and our description of them if it has one; no pickles."""
  try:
    with zipfile.ZipFile(path) as archive:
      size = os.path.getsize(path)
      for info in archive.infolist():
        if info.file_size > 1000 * size:  # deflate's best is about 1:1032
          raise UserError(f"{path} claims {info.file_size:,} bytes for {info.filename}, and has "
                          f"{size:,}; fetch it again")
    with np.load(path, allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
  except (zipfile.BadZipFile, OSError, ValueError, EOFError, MemoryError) as error:
    raise UserError(f"{path} is not a whole npz file of numbers ({_line(error)}); fetch it again"
                    ) from error
  meta = arrays.pop(META, None)
  return arrays, None if meta is None else json.loads(str(meta))


def write_safetensors(path: str | os.PathLike, arrays: Mapping[str, np.ndarray],
                      metadata: Mapping[str, str]) -> None:
  """Writes a safetensors file; metadata are strings."""
  codes = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
  header: dict[str, Any] = {"__metadata__": dict(metadata)}
  at = 0
  for name, array in arrays.items():
    header[name] = {"dtype": codes[array.dtype], "shape": list(array.shape),
                    "data_offsets": [at, at + array.nbytes]}
    at += array.nbytes
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)  # so that the tensors are aligned
  with open(path, "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
      file.write(array.tobytes())


def write_npz(path: str | os.PathLike, arrays: Mapping[str, np.ndarray],
              meta: Mapping[str, Any]) -> None:
  """Writes an npz file with the description `meta`."""
  with open(path, "wb") as file:
    np.savez(file, **arrays, **{META: np.array(json.dumps(meta))})


def _line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0][:160]
