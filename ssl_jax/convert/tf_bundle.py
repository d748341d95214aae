"""TensorFlow's checkpoints: an index, which is a table of LevelDB's format, and data shards.

github.com/google/leveldb doc/table_format.md; tensorflow/core/protobuf/tensor_bundle.proto. Tensors
are numpy views of the shards, mapped into memory.
"""

import mmap
import os
import pathlib
from collections.abc import Iterator

import ml_dtypes
import numpy as np

from ssl_jax.convert.protobuf import message, numbers, varint
from ssl_jax.errors import UserError

FOOTER, MAGIC = 48, 0xDB4775248B80FB57
TRAILER = 5  # behind every block: one byte of compression, four of checksum
# tensorflow/core/framework/types.proto
DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 5: np.int16, 6: np.int8,
          9: np.int64, 10: np.bool_, 14: ml_dtypes.bfloat16, 19: np.float16}


def _handle(data: memoryview, at: int) -> tuple[int, int, int]:
  offset, at = varint(data, at)
  size, at = varint(data, at)
  return offset, size, at


def _block(table: memoryview, offset: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
  """The keys and values of a block; a key is told by what it shares with the one before."""
  if offset + size + TRAILER > len(table) or size < 4:
    raise UserError(f"a block of {size:,} bytes at {offset:,} in {len(table):,} bytes")
  if table[offset + size]:
    raise UserError("a compressed index, which TensorFlow does not write by default")
  block = table[offset:offset + size]
  restarts = int.from_bytes(block[-4:], "little")
  end, at, key = size - 4 - 4 * restarts, 0, b""
  while at < end:
    shared, at = varint(block, at)
    rest, at = varint(block, at)
    length, at = varint(block, at)
    if at + rest + length > end:
      raise UserError(f"an entry claims {rest + length:,} bytes where {end - at:,} are left")
    key = key[:shared] + bytes(block[at:at + rest])
    yield key, block[at + rest:at + rest + length]
    at += rest + length


def _entries(table: memoryview) -> Iterator[tuple[bytes, memoryview]]:
  if len(table) < FOOTER or int.from_bytes(table[-8:], "little") != MAGIC:
    raise UserError("no index of a checkpoint, or a part of one")
  footer = table[-FOOTER:]
  _, _, at = _handle(footer, 0)  # of the metaindex, which is empty
  offset, size, _ = _handle(footer, at)
  for _, value in _block(table, offset, size):
    offset, size, _ = _handle(value, 0)
    yield from _block(table, offset, size)


def index_of(path: str | os.PathLike) -> pathlib.Path | None:
  """The .index file meant by a path: itself, a shard, the prefix of both, or a folder of one.

  None for any other path, and where it does not exist.
  """
  path = pathlib.Path(path)
  if path.is_file() and path.suffix != ".index" and ".data-" not in path.name:
    return None
  if path.is_dir():
    found = sorted(path.glob("*.index"))
    return found[0] if len(found) == 1 else None
  stem = path.name.split(".data-")[0].removesuffix(".index")
  index = path.with_name(stem + ".index")
  return index if index.is_file() else None


def read_tf_bundle(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """The numeric variables of a checkpoint by name.

  Raises:
    UserError: A file is damaged, missing or shorter than the index says.
  """
  index = index_of(path)
  try:
    table = memoryview(index.read_bytes())
    entries = {key.decode("utf8", "replace"): message(value) for key, value in _entries(table)}
  except UserError as error:
    raise UserError(f"{index}: {error}; fetch the checkpoint again") from error
  # BundleHeaderProto: num_shards = 1, endianness = 2.
  header = entries.pop("", {})
  if header.get(2, [0])[0]:
    raise UserError(f"{index} was written on a big-endian machine; save it on another")
  shards: dict[int, mmap.mmap] = {}
  count = header.get(1, [1])[0]

  def shard(number: int) -> mmap.mmap:
    if number not in shards:
      file_path = index.with_name(f"{index.stem}.data-{number:05d}-of-{count:05d}")
      if not file_path.is_file() or not file_path.stat().st_size:
        raise UserError(f"{file_path} is missing, which {index.name} speaks of; put it beside it")
      with open(file_path, "rb") as file:
        shards[number] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return shards[number]

  def tensor(name: str, entry: dict) -> np.ndarray:
    # BundleEntryProto: dtype = 1, shape = 2, shard_id = 3, offset = 4, size = 5.
    dtype = np.dtype(DTYPES[entry[1][0]])
    sides = message(entry[2][0]).get(2, []) if 2 in entry else []
    shape = [numbers(message(side).get(1, [0]))[0] for side in sides]
    size, offset = entry.get(5, [0])[0], entry.get(4, [0])[0]
    elements = int(np.prod(shape, dtype=object))
    content = shard(entry.get(3, [0])[0])
    if min([*shape, 0]) < 0 or elements * dtype.itemsize != size or offset + size > len(content):
      raise UserError(f"{index}: {name} of shape {tuple(shape)} claims {size:,} bytes at "
                      f"{offset:,}, its shard has {len(content):,}; fetch the checkpoint again")
    return np.frombuffer(content, dtype, elements, offset).reshape(shape)

  return {name: tensor(name, entry) for name, entry in entries.items()
          if entry.get(1, [0])[0] in DTYPES}
