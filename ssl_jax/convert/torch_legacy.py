"""PyTorch's files before 1.6: a row of pickles, then the storages one after another."""

import mmap
import os
from typing import Any

import numpy as np

from ssl_jax.convert.pickles import Inert, settled, unpickle
from ssl_jax.convert.torch_zip import MADE, storage_of
from ssl_jax.errors import UserError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_torch_legacy(path: str | os.PathLike) -> dict[str, Any]:
  """What `torch.load` would give, with numpy views of the file for tensors.

  The storages lie behind the pickle that speaks of them. So it is read twice: for the storages'
  types, with nothing made of it, and again when their places are known.

  Raises:
    UserError: The file is damaged, or asks for what is not allowed.
  """
  where = str(path)
  with open(path, "rb") as file:
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
  if unpickle(content, where) != MAGIC or unpickle(content, where) != PROTOCOL:
    raise UserError(f"{where} is not a file of PyTorch that is known here; save it again")
  if unpickle(content, where).get("little_endian") is False:
    raise UserError(f"{where} was written on a big-endian machine; save it on another")
  start, kinds = content.tell(), {}

  def note(pid):
    dtype, key, count = storage_of(pid, where)
    if len(pid) > 5 and pid[5] is not None:
      raise UserError(f"{where} is of a PyTorch before 0.4, with views of storages; save it again")
    kinds[key] = dtype, count

  nothing = {name: Inert for name in MADE if "_rebuild" in name}
  unpickle(content, where, made=MADE | nothing, persistent=note)
  storages = {}
  for key in unpickle(content, where):
    dtype, count = kinds[str(key)]
    stored = int.from_bytes(content.read(8), "little")
    here, size = content.tell(), stored * dtype.itemsize
    if stored < count or here + size > len(content):
      raise UserError(f"{where} ends within its tensors: {len(content):,} bytes, and storage {key} "
                      f"goes to {here + size:,}; fetch it again")
    storages[str(key)] = np.frombuffer(content, dtype, count, here)
    content.seek(here + size)
  content.seek(start)
  return settled(unpickle(content, where, made=MADE, persistent=lambda pid: storages[str(pid[2])]))
