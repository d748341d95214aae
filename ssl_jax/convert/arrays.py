"""Files that hold named arrays and nothing else: safetensors and npz.

Ours hold the description of the encoder as well, as JSON: in safetensors' metadata, or in the array
`__meta__`.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ssl_jax.errors import UserError

META = "__meta__"
KEY = "ssl_jax"  # in safetensors' metadata

Named = tuple[dict[str, np.ndarray], dict[str, Any] | None]  # arrays, description or None


def read_safetensors(path: str | os.PathLike) -> Named:
  """The tensors of a safetensors file, and our description of them if it has one."""
  try:
    with safe_open(path, framework="numpy") as file:
      meta = (file.metadata() or {}).get(KEY)
      return {name: file.get_tensor(name) for name in file.keys()}, meta and json.loads(meta)  # noqa: SIM118
  except (SafetensorError, OSError, ValueError, TypeError) as error:
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
  save_file({name: np.require(array, requirements="C") for name, array in arrays.items()}, path,
            dict(metadata))


def write_npz(path: str | os.PathLike, arrays: Mapping[str, np.ndarray],
              meta: Mapping[str, Any]) -> None:
  """Writes an npz file with the description `meta`."""
  with open(path, "wb") as file:
    np.savez(file, **arrays, **{META: np.array(json.dumps(meta))})


def _line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0][:160]
