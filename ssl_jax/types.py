"""The records that every floor of the house agrees on.

One alphabet for shapes: B batch, V views, H W C image, D embedding, F features, K queue,
N data set, G groups.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
Batch = dict[str, Array]  # "image" u8[B,H,W,3], "label" i32[B], "index" i32[B], "size" i32[B,2]
Views = dict[str, Array]  # name -> f32[B,h,w,3]
Metrics = dict[str, Array]  # name -> f32[]
Memory = Any  # an opaque pytree: a queue, a bank, a centre, or ()
Params = Any  # a pytree of arrays
Schedule = Callable[[Any], Any]  # step -> value
# Which views go through the network, and which of them together: an inner tuple is one forward
# pass, so one BatchNorm batch. SimCLR is (("a", "b"),), BYOL is (("a",), ("b",)).
Route = tuple[tuple[str, ...], ...]


class Outputs(NamedTuple):
  """All that a loss may look at."""

  online: dict[str, dict[str, Array]]  # view -> {"features": f32[B,F], "projection": f32[B,D], ..}
  target: dict[str, dict[str, Array]]  # the same from the target network, gradients stopped
  batch: Batch
  key: Array  # the step's key: what `views` was given, so a loss can redo a draw of the views
  step: Array


def no_memory(key: Array, outputs: Outputs) -> Memory:
  """The memory of a method that keeps none."""
  del key, outputs
  return ()


class Method(NamedTuple):
  """A pretraining method: a record of pure functions; routes are data.

  Attributes:
    network: A Flax module. `apply(variables, images, train=...)` returns a dictionary with at
      least "features", and one entry per head.
    views: `(key, batch) -> Views`, on the device, inside the step.
    online: The route of the trained network.
    loss: `(outputs, memory) -> (loss f32[], memory, metrics)`.
    target: The route of the target network; `()` means that none exists.
    decay: The target's EMA rate at a step: `target <- decay * target + (1 - decay) * online`,
      applied after the optimizer's update. (MoCo's update before the key forward is the same
      sequence, shifted by half a step.)
    init_memory: `(key, outputs) -> Memory`; it is given the shapes of `Outputs` only.
    negatives: Negatives seen by one anchor, for the line at start-up; 0 when there are none.
    chance: Loss of a network that knows nothing, where the method has one; else None.
    in_blocks: Whether the loss never holds all similarities at once; for the line at start-up.
  """

  network: Any
  views: Callable[[Array, Batch], Views]
  online: Route
  loss: Callable[[Outputs, Memory], tuple[Array, Memory, Metrics]]
  target: Route = ()
  decay: Schedule = lambda step: 1.0
  init_memory: Callable[[Array, Outputs], Memory] = no_memory
  negatives: int = 0
  chance: float | None = None
  in_blocks: bool = False


class Run(NamedTuple):
  """What a run gives to a method, whichever it is.

  Attributes:
    backbone: A Flax module, images -> {"features": f32[B,F], ...}.
    views: `(key, batch) -> {name: f32[B,h,w,3]}`, random views of every image.
    batch_size: B, the global batch.
    total_steps: Length of the run.
    num_classes: Number of labels, 0 without any.
    norm: "global", or how many samples share BatchNorm statistics: the heads' norm.
    dtype: Compute dtype of the heads.
    view_names: The names of what `views` returns.
  """

  backbone: Any
  views: Callable[[Array, Batch], Views]
  batch_size: int
  total_steps: int
  num_classes: int = 0
  norm: str | int = "global"
  dtype: Any = "float32"
  view_names: tuple[str, ...] = ("a", "b")


class Monitor(NamedTuple):
  """What is watched during training and cannot change it: it sees stopped gradients only.

  Attributes:
    init: `(key, outputs) -> state`, given the shapes of `Outputs` only.
    update: `(state, outputs) -> (state, metrics)`.
  """

  init: Callable[[Array, Outputs], Any]
  update: Callable[[Any, Outputs], tuple[Any, Metrics]]


class TrainState(NamedTuple):
  """Everything that a step changes, and all that a checkpoint holds of the model."""

  step: Array  # i32[]
  key: Array  # the root key; a step's key is fold_in(key, step)
  params: Params
  stats: Params  # BatchNorm statistics of the online network
  target_params: Params  # {} without a target network
  target_stats: Params
  opt_state: Any
  memory: Memory
  monitor: Any  # what the Monitor keeps, () without one
  skipped: Array  # i32[], updates left out because loss or gradients were not finite
