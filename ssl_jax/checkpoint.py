"""Checkpoints: the whole training state for resuming, and the encoder alone for using it.

A checkpoint holds four items: `state`, the TrainState; `encoder`, the backbone's parameters and
statistics; `data`, the position in the data; `meta`, what is needed to rebuild the encoder. It is
written in the background to a temporary folder, which is renamed when complete: a run that is
killed at any moment finds the last complete one.
"""

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep_policy

from ssl_jax.convert import Encoder, load
from ssl_jax.convert.ours import FOLDER, first_line, read_workdir, saved_steps
from ssl_jax.errors import UserError
from ssl_jax.types import Params, TrainState

METRIC = "knn_top1"
__all__ = ["FOLDER", "METRIC", "Checkpoints", "encoder_of", "load_encoder", "saved_steps"]


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
          f"checkpoint {self.folder / str(step)} cannot be read ({first_line(error)}); delete "
          "that folder to resume from the one before it, or name another --workdir") from error
    state = TrainState(**items["state"])
    return state._replace(key=jax.random.wrap_key_data(state.key)), items["data"]

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exc_info) -> None:
    """Waits until everything is written."""
    self.manager.wait_until_finished()
    self.manager.close()


def load_encoder(path: str, step: int | None = None) -> Encoder:
  """Reads an encoder to the host.

  Args:
    path: A workdir, for the backbone of its last checkpoint; or any file that `convert.load` knows.
    step: That of the workdir's checkpoint.

  Raises:
    UserError: There is no such checkpoint, or it cannot be read.
  """
  return load(path) if step is None else read_workdir(path, step)
