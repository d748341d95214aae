"""Our own encoders: a run's workdir, and what `ssl_jax.export` writes as safetensors or npz."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from ssl_jax.convert.encoder import Encoder, owned, variables_of
from ssl_jax.convert.structure import shapes
from ssl_jax.errors import UserError

FOLDER = "checkpoints"  # in a workdir


def saved_steps(workdir: str) -> list[int]:
  """The steps of a workdir's complete checkpoints, in order."""
  folder = epath.Path(workdir) / FOLDER
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) \
      if folder.exists() else []


def is_workdir(path: str) -> bool:
  """Whether a pretraining run has left a checkpoint there."""
  return bool(saved_steps(path))


def read_workdir(workdir: str, step: int | None = None) -> Encoder:
  """Reads the backbone of a run's last checkpoint, or of that at `step`.

  Raises:
    UserError: There is no such workdir or checkpoint, or it cannot be read.
  """
  folder, steps = epath.Path(workdir).absolute() / FOLDER, saved_steps(workdir)
  if not steps:
    raise UserError(f"{workdir} holds no checkpoint; name the workdir of a pretraining run")
  if step is not None and step not in steps:
    raise UserError(f"{workdir} holds no checkpoint of step {step}; it has {steps}")
  path = folder / str(steps[-1] if step is None else step)
  try:
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
      meta = reader.restore(path / "meta")
    with ocp.StandardCheckpointer() as reader:
      tree = reader.metadata(path / "encoder").item_metadata.tree
      # Given numpy arrays to fill, it returns numpy arrays: no device is touched.
      variables = reader.restore(path / "encoder", _blank(tree))
  except Exception as error:
    raise UserError(f"checkpoint {path} cannot be read ({first_line(error)}); use an earlier step "
                    "or another workdir") from error
  return Encoder(variables, meta)


def _blank(tree):
  if isinstance(tree, Mapping):
    return {name: _blank(value) for name, value in tree.items()}
  return np.empty(tree.shape, tree.dtype)


def first_line(error: Exception) -> str:
  """An error of a library in one line."""
  lines = str(error).strip().splitlines()
  return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"


def from_export(arrays: Mapping[str, np.ndarray], meta: dict[str, Any], where: str) -> Encoder:
  """An encoder that was exported with its description.

  Raises:
    UserError: The tensors are not those that the description promises.
  """
  expected = shapes(meta["model"])
  wrong = sorted(name for name in {*expected, *arrays}
                 if name not in arrays or arrays[name].shape != expected.get(name))
  if wrong:
    matched = len(expected.keys() - set(wrong))
    raise UserError(f"{where}: {matched} of {len(expected)} tensors match its own description; the "
                    f"first that does not is {wrong[0]}; export it again")
  return Encoder(variables_of({name: owned(array) for name, array in arrays.items()}), meta)
