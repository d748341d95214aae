"""Where an encoder looks: how much its features change when a patch of the image is covered."""

from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp

from ssl_jax.types import Array

Encode = Callable[[Array], Array]  # f32[B, h, w, 3] -> f32[B, F]


def relative_error(features: Array, other: Array) -> Array:
  """sqrt(sum (f - g)^2 / sum (f - mean f)^2), over the last axis; 0 for features without spread.

  Ericsson et al. 2020, arXiv:2011.13377, appendix A.9: the same for all scales of features.
  """
  change = jnp.sum(jnp.square(features - other), axis=-1)
  spread = jnp.sum(jnp.square(features - features.mean(-1, keepdims=True)), axis=-1)
  return jnp.where(spread > 0, jnp.sqrt(change / jnp.where(spread > 0, spread, 1)), 0.0)


@partial(jax.jit, static_argnames=("encode", "window", "stride", "chunk"))
def occlusion_map(encode: Encode, image: Array, *, fill: Array | float, window: int = 10,
                  stride: int = 1, chunk: int = 128) -> Array:
  """Attention to every pixel: the mean change of the features over the patches that cover it.

  Ericsson et al. 2020, appendix A.9. Patches stand only where they lie inside of the image, so a
  border of window - 1 pixels is covered less often; the map leaves it out, and at stride 1 every
  pixel of it is covered window^2 times. The paper shows images of 242 pixels for a map of 224 with
  patches of 10; what it fills them with, and whether the network is shown all 242, is not told.

  Args:
    encode: Images -> features. To be the same object from call to call, or it is compiled again.
    image: f32[h, w, 3].
    fill: What a patch is filled with: a number or f32[3]. The training's mean colour, 0 after
      normalisation, is the natural choice.
    window: Side of the patch, k.
    stride: Pixels between patches, at most k: 2 costs a quarter.
    chunk: Covered images at a time.

  Returns:
    f32[h - 2 k + 2, w - 2 k + 2].
  """
  chex.assert_rank(image, 3)
  h, w = image.shape[:2]
  rows, cols = (jnp.arange(0, n - window + 1, stride) for n in (h, w))
  corners = jnp.stack(jnp.meshgrid(rows, cols, indexing="ij"), axis=-1).reshape(-1, 2)
  count = len(corners)
  chunk = min(chunk, count)
  chunks = -(-count // chunk)
  padded = jnp.pad(corners, ((0, chunks * chunk - count), (0, 0))).reshape(chunks, chunk, 2)
  plain = encode(image[None])[0]
  patch = jnp.broadcast_to(jnp.asarray(fill, image.dtype), (window, window, image.shape[2]))

  def changes(corners):
    covered = jax.vmap(lambda corner: jax.lax.dynamic_update_slice(
        image, patch, (corner[0], corner[1], 0)))(corners)
    return relative_error(plain, encode(covered))

  change = jax.lax.map(changes, padded).reshape(-1)[:count]
  # A pixel is covered by the patches whose corners lie in the window that ends at it.
  at = jnp.zeros((2, h - window + 1, w - window + 1)).at[:, corners[:, 0], corners[:, 1]].set(
      jnp.stack([change, jnp.ones(count)]))
  total, covers = jax.lax.reduce_window(
      at, 0.0, jax.lax.add, (1, window, window), (1, 1, 1), "VALID")
  return total / covers


def attentive_diffusion(attention: Array) -> Array:
  """The share of a map f32[..., h, w] above its own mean, in percent: f32[...].

  Ericsson et al. 2020, section 4.6: high for an encoder that looks everywhere, low for one that
  looks at little.
  """
  mean = attention.mean((-2, -1), keepdims=True)
  return 100 * jnp.mean((attention > mean).astype(jnp.float32), axis=(-2, -1))
