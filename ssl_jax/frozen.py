"""A saved encoder as functions of images: what notebooks, analyses and reports call."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax import build
from ssl_jax.augment.presets import preset
from ssl_jax.augment.views import batched
from ssl_jax.types import Array, Batch


class Frozen(NamedTuple):
  """A frozen encoder with its normalisation inside; images are f32[B, h, w, 3] in [0, 1].

  Its functions may be traced, jitted and differentiated by the images, and are the same objects
  from call to call. `show` is for stored batches, such as `data.epoch` yields.

  Attributes:
    show: (batch, size) -> images of that size: cropped and resized as evaluation does. A bicubic
      preset may leave [0, 1] by a little.
    layers: images -> the outputs of the stages and "features", {"stage1": f[B,h',w',C], ...,
      "features": f32[B,F]}.
    encode: images -> features f32[B, F].
    size: The size that the encoder is evaluated at.
    canvas: The side of stored images.
    mean: The colour, of three numbers, that the normalisation takes to 0.
  """

  show: Callable[[Batch, int], Array]
  layers: Callable[[Array], dict[str, Array]]
  encode: Callable[[Array], Array]
  size: int
  canvas: int
  mean: tuple[float, ...]


def freeze(variables: Any, meta: Mapping[str, Any]) -> Frozen:
  """The encoder of a checkpoint: `freeze(saved.variables, saved.meta)` of `load_encoder`.

  Args:
    variables: The backbone's parameters and statistics; they go to the default device.
    meta: "model" and "preprocessing", as a checkpoint tells them.
  """
  module = build.backbone(meta["model"])
  name, options = build.split_name(meta["preprocessing"], "preset")
  variables = jax.device_put(variables)
  mean, std = (tuple(options.pop(key)) for key in ("mean", "std"))
  size, canvas = options.pop("size"), options.pop("canvas")

  @partial(jax.jit, static_argnums=1)
  def show(batch: Batch, size: int) -> Array:
    (view,) = preset(name, size=size, mean=(0.0,) * 3, std=(1.0,) * 3, **options).values()
    return batched(view)(jax.random.key(0), {k: batch[k] for k in ("image", "size")})

  def layers(images: Array) -> dict[str, Array]:
    outputs = module.apply(variables, (images - jnp.array(mean)) / jnp.array(std), train=False)
    return {k: v for k, v in outputs.items() if k.startswith("stage") or k == "features"}

  return Frozen(show, jax.jit(layers), jax.jit(lambda images: layers(images)["features"]), size,
                 canvas, mean)
