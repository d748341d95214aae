"""Embeddings of a set of images in a file, written as they are made: npz or Parquet.

Each image has a row of `features` f32[F], `label` (-1 if none), `index` in its source and `name`.
Unreadable images have no row.
"""

import os
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator

import numpy as np

from ssl_jax import build, data
from ssl_jax.assess import Examiner
from ssl_jax.convert import Encoder
from ssl_jax.errors import UserError
from ssl_jax.sharding import replicate

Rows = dict[str, np.ndarray | list[str]]


def rows(encoder: Encoder, source: data.Source, batch_size: int) -> Iterator[Rows]:
  """The embeddings of a source, some hundred images at a time."""
  examiner = Examiner(build.backbone(encoder.meta["model"]), encoder.meta["preprocessing"],
                      batch_size)
  variables = replicate(examiner.mesh, encoder.variables)
  for batch in data.epoch(source, batch_size=examiner.batch_size, canvas=examiner.canvas):
    valid = batch["valid"]
    index = batch["index"][valid]
    yield {"features": np.asarray(examiner.encode(variables, batch), np.float32)[valid],
           "label": batch["label"][valid], "index": index,
           "name": [source.records.name(int(i)) for i in index]}


def write_npz(out: pathlib.Path, batches: Iterator[Rows]) -> tuple[int, int]:
  """Writes `features`, `label`, `index` and `name`; returns (N, F). Keeps no features in memory."""
  with tempfile.TemporaryFile(dir=out.parent) as raw:
    rest: dict[str, list] = {"label": [], "index": [], "name": []}
    for batch in batches:
      raw.write(batch["features"].tobytes())
      width = batch["features"].shape[1]
      for name, values in rest.items():
        values.extend(batch[name])
    count = len(rest["index"])
    raw.seek(0)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
      with archive.open("features.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, {
            "descr": "<f4", "fortran_order": False, "shape": (count, width)})
        shutil.copyfileobj(raw, file, 1 << 20)
      for name, values in rest.items():
        with archive.open(f"{name}.npy", "w") as file:
          np.lib.format.write_array(file, np.array(values), allow_pickle=False)
  return count, width


def write_parquet(out: pathlib.Path, batches: Iterator[Rows]) -> tuple[int, int]:
  """Writes the same columns, a row group for each batch; returns (N, F).

  Raises:
    UserError: The package `pyarrow` is missing.
  """
  try:
    import pyarrow
    from pyarrow import parquet
  except ImportError as error:
    raise UserError(".parquet needs the package pyarrow; pip install 'ssl_jax[export]', or write "
                    ".npz") from error
  count, writer = 0, None
  for batch in batches:
    count, width = count + len(batch["index"]), batch["features"].shape[1]
    columns = {name: pyarrow.array(batch[name]) for name in ("index", "label", "name")}
    columns["features"] = pyarrow.FixedSizeListArray.from_arrays(
        pyarrow.array(batch["features"].reshape(-1)), width)
    table = pyarrow.table(columns)
    writer = writer or parquet.ParquetWriter(out, table.schema)
    writer.write_table(table)
  writer.close()
  return count, width


WRITERS = {".npz": write_npz, ".parquet": write_parquet}


def save(encoder: Encoder, source: data.Source, out: str | os.PathLike, batch_size: int = 256
         ) -> tuple[int, int]:
  """Embeds every image of a source; returns (N, F). The file appears when it is complete.

  Raises:
    UserError: The file exists or is of another kind, or images cannot be read.
  """
  out = pathlib.Path(out)
  if out.suffix not in WRITERS:
    raise UserError(f"--out={out} must end in .npz or .parquet")
  if out.exists():
    raise UserError(f"{out} exists; name another --out")
  out.parent.mkdir(parents=True, exist_ok=True)
  part = out.with_name(f".{out.name}.{os.getpid()}{out.suffix}")
  try:
    shape = WRITERS[out.suffix](part, rows(encoder, source, batch_size))
    part.replace(out)
  finally:
    part.unlink(missing_ok=True)
  return shape
