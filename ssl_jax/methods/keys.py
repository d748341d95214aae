"""What MoCo shares with the methods built on it: keys of a shuffled batch, and queues of them."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp

from ssl_jax.models import Network
from ssl_jax.ops import l2_normalize, queue_push, random_unit, shuffle
from ssl_jax.schedules import constant
from ssl_jax.types import Array, Batch, Memory, Method, Outputs, Run, Views

InitMemory = Callable[[Array, Outputs], Memory]
SHUFFLE = 7  # the stream of the step's key from which the order of the key batch is drawn


def shuffled(views: Callable[[Array, Batch], Views], moved: Collection[str]
             ) -> Callable[[Array, Batch], Views]:
  """The same views, of which those in `moved` show the images in another order.

  With BatchNorm in groups, a key is then not told by the company it keeps (He et al. 2020,
  arXiv:1911.05722, section 3.3). `restored` brings the network's outputs back into order.
  """
  def draw(key: Array, batch: Batch) -> Views:
    # The stored images are permuted, not the views: uint8 pixels are cheaper to move. Which view
    # is unused in which call is known to the compiler, so each is computed once.
    order, _ = shuffle(jax.random.fold_in(key, SHUFFLE), batch["index"].shape[0])
    still, other = views(key, batch), views(key, jax.tree.map(lambda x: x[order], batch))
    return {name: (other if name in moved else still)[name] for name in still}
  return draw


def restored(outputs: Outputs, view: str, head: str = "projection") -> Array:
  """A head's output for a shuffled view of the target: f32[B, D] of unit length, in order."""
  _, order = shuffle(jax.random.fold_in(outputs.key, SHUFFLE), outputs.batch["index"].shape[0])
  return l2_normalize(outputs.target[view][head][order])


def queue_of(size: int, heads: tuple[str, ...] = ("projection",)) -> InitMemory:
  """A memory of `size` random unit rows, "queue" f32[size, D], D being the heads' widths in all."""
  def init(key: Array, outputs: Outputs):
    view = next(iter(outputs.target.values()))
    width = sum(view[head].shape[-1] for head in heads)
    return {"queue": random_unit(key, (size, width)), "pointer": jnp.int32(0)}
  return init


def labelled_queue_of(size: int, heads: tuple[str, ...] = ("projection",)) -> InitMemory:
  """The same with a "label" i32[size] to each row, at first -1: of no class."""
  unlabelled = queue_of(size, heads)
  return lambda key, outputs: unlabelled(key, outputs) | {"label": jnp.full(size, -1, jnp.int32)}


def enqueue(memory: dict[str, Array], **rows: Array) -> dict[str, Array]:
  """The memory after new rows went into the rings of those names, which share one pointer."""
  pushed = {ring: queue_push(memory[ring], memory["pointer"], new) for ring, new in rows.items()}
  rings = {ring: entries for ring, (entries, _) in pushed.items()}
  pointer, *_ = (pointer for _, pointer in pushed.values())
  return {**memory, **rings, "pointer": pointer}


def with_keys(run: Run, heads: tuple[tuple[str, str, Any], ...], loss: Callable,
              init_memory: InitMemory, *, queue: int, decay: float, chance: float,
              in_blocks: bool = False) -> Method:
  """The method of a query, view "a", and a key, view "b", shuffled, of a slowly moving network."""
  return Method(
      network=Network(run.backbone, heads),
      views=shuffled(run.views, ("b",)),
      online=(("a",),),
      target=(("b",),),
      loss=loss,
      decay=constant(decay),
      init_memory=init_memory,
      negatives=queue,
      chance=chance,
      in_blocks=in_blocks)
