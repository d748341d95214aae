"""From stored images to the views of a method: how operations make views, and views a batch.

A view is `(key, image u8[S, S, 3], extent [2]) -> f32[size, size, 3]`; `together` makes of several
the `views(key, batch)` of a method. Image i of the batch gets `fold_in(key, i)` and operation j of
its chain `fold_in(key, j)`, so that the draws depend neither on the devices nor on what the other
images or operations draw.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from ssl_jax.types import Array, Batch, Views

Op = Callable[[Array, Array], Array]  # (key, image f32[H, W, 3]) -> image
View = Callable[[Array, Array, Array], Array]  # (key, image u8[S,S,3], extent [2]) -> f32[h,w,3]
Scene = Callable[[Array, Batch], Batch]  # (key, batch) -> batch with other pixels

SCENE = 2**31 - 1  # the stream of a view's key for its scene: no image of a batch has this number


def compose(*ops: Op) -> Op:
  """The operations one after another; operation i gets `fold_in(key, i)`."""
  def composed(key, image):
    for i, op in enumerate(ops):
      image = op(jax.random.fold_in(key, i), image)
    return image
  return composed


def sometimes(probability: float, op: Op) -> Op:
  """The operation with a probability, else the image as it is; 0 and 1 cost no draw."""
  if probability <= 0:
    return lambda key, image: image
  if probability >= 1:
    return op

  def gated(key, image):
    gate, inner = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
    return jnp.where(jax.random.uniform(gate) < probability, op(inner, image), image)
  return gated


def keyless(function: Callable[..., Array], **settings) -> Op:
  """An operation that draws nothing, from a function of the image."""
  return lambda key, image: function(image, **settings)


def chain(crop: View, *ops: Op) -> View:
  """A view: the crop, then the operations."""
  rest = compose(*ops)

  def view(key, image, extent):
    image = crop(jax.random.fold_in(key, 0), image, extent)
    return rest(jax.random.fold_in(key, 1), image)
  return view


def batched(view: View) -> Callable[[Array, Batch], Array]:
  """The view of every image: (key, batch with "image" and "size") -> f32[B, h, w, 3]."""
  def views(key, batch):
    index = jnp.arange(batch["image"].shape[0])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    return jax.vmap(view)(keys, batch["image"], batch["size"])
  return views


def together(views: Mapping[str, View], scenes: Mapping[str, Scene] = MappingProxyType({})
             ) -> Callable[[Array, Batch], Views]:
  """Every view of every image, independently drawn: (key, batch) -> {name: f32[B, h, w, 3]}.

  Args:
    views: By name; view i gets `fold_in(key, i)`.
    scenes: By name, of the views that have one: what changes the stored images before the view is
      cut out of them, anew for each view.
  """
  # Jitted so that a view is traced once, though it has two names or MoCo draws it twice.
  drawn = {view: jax.jit(batched(view)) for view in views.values()}

  def shown(key, name, batch):
    if name in scenes:
      batch = scenes[name](jax.random.fold_in(key, SCENE), batch)
    return drawn[views[name]](key, {part: batch[part] for part in ("image", "size")})

  return lambda key, batch: {name: shown(jax.random.fold_in(key, i), name, batch)
                             for i, name in enumerate(views)}
