"""Checkpoints: the whole training state for resuming, and the encoder alone for using it.

A checkpoint holds four items: `state`, the TrainState; `encoder`, the backbone's parameters and
statistics; `data`, the position in the data; `meta`, what is needed to rebuild the encoder. It is
written in the background to a temporary folder, which is renamed when complete: a run that is
killed at any moment finds the last complete one.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep_policy

from ssl_jax.errors import UserError
from ssl_jax.types import Params, TrainState

FOLDER = "checkpoints"
METRIC = "knn_top1"


class Saved(NamedTuple):
  """What `load_encoder` returns.

  Attributes:
    variables: {"params": .., "batch_stats": ..} of the backbone, on the host.
    meta: "model" and "preprocessing", and the method, step and config they came from.
  """

  variables: dict[str, Params]
  meta: dict[str, Any]


def encoder_of(state: TrainState) -> dict[str, Params]:
  """The backbone's variables of a training state."""
  return {"params": state.params["backbone"], "batch_stats": state.stats.get("backbone", {})}


class Checkpoints:
  """The checkpoints of a workdir; keeps the last `keep` and the best by on-line k-NN.

  A context manager, which waits at its end until everything is written.
  """

  def __init__(self, workdir: str, keep: int):
    policy = keep_policy.AnyPreservationPolicy([
        keep_policy.LatestN(keep),
        keep_policy.BestN(get_metric_fn=lambda metrics: metrics[METRIC], n=1,
                          keep_checkpoints_without_metrics=False)])
    self.folder = epath.Path(workdir).absolute() / FOLDER
    self.manager = ocp.CheckpointManager(
        self.folder, options=ocp.CheckpointManagerOptions(
            preservation_policy=policy, cleanup_tmp_directories=True))

  def latest(self) -> int | None:
    """The step of the last complete checkpoint."""
    return self.manager.latest_step()

  def save(self, state: TrainState, data: dict, meta: dict, metrics: dict | None = None) -> None:
    """Starts to write a checkpoint of this step; returns as soon as the arrays are copied."""
    step = int(state.step)
    if step in self.manager.all_steps():
      return
    # Typed keys are arrays of an extended type, which files do not know.
    state = state._replace(key=jax.random.key_data(state.key))
    self.manager.save(step, metrics=metrics, args=ocp.args.Composite(
        state=ocp.args.StandardSave(state._asdict()),
        encoder=ocp.args.StandardSave(encoder_of(state)),
        data=ocp.args.JsonSave(data),
        meta=ocp.args.JsonSave(meta | {"step": step})))

  def restore(self, like: TrainState) -> tuple[TrainState, dict]:
    """Reads the last checkpoint.

    Args:
      like: A state of the same shapes, types and shardings, as from `init_state`.

    Returns:
      (the state, the position in the data).

    Raises:
      UserError: The checkpoint cannot be read, or is of another network or method.
    """
    step = self.latest()
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
        like._replace(key=jax.random.key_data(like.key))._asdict())
    try:
      items = self.manager.restore(step, args=ocp.args.Composite(
          state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()))
    except Exception as error:  # orbax raises many types for a damaged or foreign file
      raise UserError(
          f"checkpoint {self.folder / str(step)} cannot be read ({_first_line(error)}); delete "
          "that folder to resume from the one before it, or name another --workdir") from error
    state = TrainState(**items["state"])
    return state._replace(key=jax.random.wrap_key_data(state.key)), items["data"]

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exc_info) -> None:
    """Waits until everything is written."""
    self.manager.wait_until_finished()
    self.manager.close()


def saved_steps(workdir: str) -> list[int]:
  """The steps of a workdir's complete checkpoints, in order."""
  folder = epath.Path(workdir) / FOLDER
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) \
      if folder.exists() else []


def load_encoder(workdir: str, step: int | None = None) -> Saved:
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
      shapes = reader.metadata(path / "encoder").item_metadata.tree
      # Given numpy arrays to fill, it returns numpy arrays: no device is touched.
      variables = reader.restore(path / "encoder", jax.tree.map(
          lambda m: np.empty(m.shape, m.dtype), shapes))
  except Exception as error:
    raise UserError(f"checkpoint {path} cannot be read ({_first_line(error)}); use an earlier step "
                    "or another workdir") from error
  return Saved(variables, meta)


def _first_line(error: Exception) -> str:
  lines = str(error).strip().splitlines()
  return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"
