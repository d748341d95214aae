"""Scenes: stored images with another background, before a view is cut out of them.

A scene takes a batch with "mask" u8[B,S,S], the foreground of each image, squashed onto the canvas
like the image; it composes on the canvas, so that whatever crop follows sees image and mask cut by
one box. It is drawn anew for each view.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import chex
import jax
import jax.numpy as jnp

from ssl_jax.augment.resample import Box, bilinear_antialias, crop_and_resize
from ssl_jax.augment.textures import texture
from ssl_jax.augment.views import Scene, View
from ssl_jax.errors import UserError, nearest
from ssl_jax.types import Array, Batch

GROUP = 8  # images that lend each other their backgrounds
# (keys [B], batch) -> f32 in [0, 1] that broadcasts to [B, S, S, 3]
Backgrounds = Callable[[Array, Batch], Array]


def dilo(*, probability: float = 0.3, backgrounds: str = "grey", blur: float = 0.5,
         radius: float = 5.0, textures: Batch | None = None) -> Scene:
  """DiLo: the foreground on another background; Zhao et al., AAAI 2021, arXiv:2004.06638.

  An image is left as it is, or becomes alpha * image + (1 - alpha) * background, where alpha is the
  mask, soft as it is, or blurred by a Gaussian. The constants are those of the released code.

  Args:
    probability: That an image is pasted; 0.3 is the best that the paper tried.
    backgrounds: "grey" (one level for a background, the paper's best), "images" (another image of
      the batch) or "textures". How the paper made its pools of the last two is not published: here
      other images come from a group of 8 neighbours in the batch, whose order is random, so that
      no pixel leaves its device.
    blur: Probability that the mask is blurred.
    radius: Sigma of that blur, in pixels of the original image.
    textures: Photographs {"image": u8[T,S,S,3], "size": i32[T,2]} to take textures from; None for
      `ssl_jax.augment.textures`.

  Raises:
    UserError: There are no such backgrounds.
  """
  known: dict[str, Backgrounds] = {
      "grey": grey_levels, "images": other_images,
      "textures": synthetic if textures is None else partial(photographs, textures)}
  if backgrounds not in known:
    raise UserError(f"config.scene.backgrounds is {backgrounds!r}; {nearest(backgrounds, known)}")

  def one(key, image, mask, size, background):
    paste, soft = jax.random.uniform(jax.random.fold_in(key, 1), (2,))
    alpha = mask.astype(jnp.float32) / 255
    alpha = jnp.where(soft < blur, soften(alpha, radius * image.shape[0] / size), alpha)
    return jnp.where(paste < probability, composite(image, alpha, background), image)

  def scene(key: Array, batch: Batch) -> Batch:
    keys = _keys(key, batch)
    drawn = known[backgrounds](jax.vmap(partial(_fold, data=0))(keys), batch)
    return batch | {"image": jax.vmap(one)(
        keys, batch["image"], batch["mask"], batch["size"], drawn)}
  return scene


def remove_background(*, probability: float = 0.1, fill: str = "grey", threshold: float = 0.5,
                      least: float = 0.05, most: float = 0.95) -> Scene:
  """ReLICv2's background removal; Tomasev et al. 2022, arXiv:2201.05119.

  The paper takes the masks of an unsupervised saliency network. What it does not say is an option,
  its default our reading: the probability, the threshold, the fill. The listing assigns the image
  anew when the draw falls, so that to the letter later views would be masked too; the text draws
  for each large view by itself, as is done here.

  Args:
    probability: p_m, that the background is removed; 0.1 is not confirmed.
    fill: "grey" (one level for an image, from U(0, 1)), "black", or "mean" (the image's mean
      colour).
    threshold: What of the mask is foreground.
    least, most: An image with less or more foreground, as a share, is left as it is; not of the
      paper.

  Raises:
    UserError: There is no such fill.
  """
  known: dict[str, Backgrounds] = {"grey": uniform_levels, "black": black, "mean": mean_colours}
  if fill not in known:
    raise UserError(f"config.scene.fill is {fill!r}; {nearest(fill, known)}")

  def one(key, image, mask, background):
    front = (mask >= 255 * threshold).astype(jnp.float32)
    share = jnp.mean(front)
    removed = jax.random.uniform(jax.random.fold_in(key, 1)) < probability
    removed &= (least <= share) & (share <= most)
    return jnp.where(removed, composite(image, front, background), image)

  def scene(key: Array, batch: Batch) -> Batch:
    keys = _keys(key, batch)
    drawn = known[fill](jax.vmap(partial(_fold, data=0))(keys), batch)
    return batch | {"image": jax.vmap(one)(keys, batch["image"], batch["mask"], drawn)}
  return scene


def composite(image: Array, alpha: Array, background: Array) -> Array:
  """alpha * image + (1 - alpha) * background, rounded: u8[S,S,3], f32[S,S], f32 -> u8[S,S,3].

  `background` is in [0, 1] and broadcasts to the image.
  """
  chex.assert_type(image, jnp.uint8)
  chex.assert_equal_shape_prefix([image, alpha], 2)
  alpha, background = alpha[..., None], 255 * background
  return jnp.rint(background + alpha * (image - background)).astype(jnp.uint8)


def soften(mask: Array, sigma: Array) -> Array:
  """A Gaussian blur of f32[S,S] by sigma [2] in pixels, down and across; the border is repeated.

  Pillow's `GaussianBlur`, which the original uses, is three box blurs: close to this.
  """
  rows, columns = (_gaussian(sigma[axis], mask.shape[axis]) for axis in (0, 1))
  return jnp.einsum("yh,hw,xw->yx", rows, mask, columns, precision=jax.lax.Precision.HIGH)


def cover(key: Array, background: Array, extent: Array, size: Array) -> Array:
  """Cuts from a photograph what covers an image, by the released code of DiLo.

  The photograph is enlarged until no side is smaller than the image's, and a piece of the image's
  size is cut out, its corner within the first half of what is left over.

  Args:
    key: Of the corner.
    background: u8[S,S,3], the photograph, squashed.
    extent: [2], its height and width before.
    size: [2], the image's.

  Returns:
    f32[S,S,3] in [0, 1], squashed like the image.
  """
  sides, wanted = (jnp.asarray(shape, jnp.float32) for shape in (extent, size))
  scale = jnp.maximum(1, jnp.max(wanted / sides))
  slack = jnp.round((scale * sides - wanted) / 2)
  corner = jnp.minimum(jnp.floor(jax.random.uniform(key, (2,)) * (slack + 1)), slack)
  box = Box(*corner / scale, *wanted / scale)
  return crop_and_resize(background, box, background.shape[0], extent, bilinear_antialias)


def grey_levels(keys: Array, batch: Batch) -> Array:
  """One level of 0, 1/255 .. 254/255 for each image: floor(255 u) of the released code of DiLo."""
  return jnp.floor(255 * uniform_levels(keys, batch)) / 255


def uniform_levels(keys: Array, batch: Batch) -> Array:
  """One level from U(0, 1) for each image."""
  del batch
  return jax.vmap(jax.random.uniform)(keys)[:, None, None, None]


def black(keys: Array, batch: Batch) -> Array:
  """0 for each image."""
  del batch
  return jnp.zeros((keys.shape[0], 1, 1, 1))


def mean_colours(keys: Array, batch: Batch) -> Array:
  """The mean colour of each image."""
  del keys
  return jnp.mean(batch["image"].astype(jnp.float32) / 255, (1, 2), keepdims=True)


def other_images(keys: Array, batch: Batch) -> Array:
  """For each image another of its group of `GROUP` in the batch, as much further on for all.

  Where every device has whole groups, the stored bytes stay on their device: no collective.

  Raises:
    UserError: The batch is odd, so that there are no groups.
  """
  count = batch["image"].shape[0]
  group = math.gcd(count, GROUP)
  if group == 1:
    raise UserError(f"config.scene.backgrounds=images pairs the images of a batch, and {count} is "
                    "odd; use an even config.batch_size")
  step = jax.random.randint(keys[0], (), 1, group)

  def moved(x):
    apart = x.reshape(count // group, group, *x.shape[1:])
    return jnp.roll(apart, step, axis=1).reshape(x.shape)

  return jax.vmap(cover)(keys, moved(batch["image"]), moved(batch["size"]), batch["size"])


def synthetic(keys: Array, batch: Batch) -> Array:
  """A texture for each image."""
  return jax.vmap(partial(texture, size=batch["image"].shape[1]))(keys)


def photographs(pool: Batch, keys: Array, batch: Batch) -> Array:
  """A photograph of a pool for each image."""
  def one(key, size):
    which = jax.random.randint(jax.random.fold_in(key, 0), (), 0, pool["image"].shape[0])
    return cover(jax.random.fold_in(key, 1), pool["image"][which], pool["size"][which], size)

  return jax.vmap(one)(keys, batch["size"])


def with_mask(crop: View) -> Callable[[Array, Array, Array, Array], tuple[Array, Array]]:
  """A crop that cuts an image and its mask by one box.

  Returns:
    (key, image u8[S,S,3], mask u8[S,S], extent [2]) -> (f32[h,w,3], f32[h,w]).
  """
  def both(key, image, mask, extent):
    chex.assert_equal_shape_prefix([image, mask], 2)
    cut = crop(key, jnp.concatenate([image, mask[..., None]], axis=-1), extent)
    return cut[..., :3], cut[..., 3]
  return both


SCENES: dict[str, Callable[..., Scene]] = {f.__name__: f for f in (dilo, remove_background)}
# The beginnings of the names of the views that are in a scene, unless the config says which.
VIEWS: Mapping[str, tuple[str, ...]] = {"dilo": ("",), "remove_background": ("large",)}


def scenes(name: str, view_names: Sequence[str], *, views: Sequence[str] | None = None, **settings
           ) -> dict[str, Scene]:
  """The scene of each view that has one: {} for the name "none", else `SCENES[name](**settings)`.

  Args:
    name: "none" or one of `SCENES`.
    view_names: All views of the run.
    views: Beginnings of the names of those that are in the scene; None for those of the paper: all
      of DiLo's, the large ones of ReLICv2's.
    **settings: Of the scene.

  Raises:
    UserError: There is no such scene, it has no such setting, or no view is in it.
  """
  if name == "none":
    return {}
  if name not in SCENES:
    raise UserError(f"unknown scene {name!r}; {nearest(name, ['none', *SCENES])}")
  known = inspect.signature(SCENES[name]).parameters
  for setting, value in settings.items():
    if setting not in known:
      raise UserError(f"scene {name!r} has no setting {setting!r} (it is {value!r}); "
                      f"{nearest(setting, ['views', *known])}")
  beginnings = VIEWS[name] if views is None else views
  chosen = [view for view in view_names if view.startswith(tuple(beginnings))]
  if not chosen:
    raise UserError(f"scene {name!r} is for views whose names begin with {' or '.join(beginnings)},"
                    f" and the run's are {', '.join(view_names)}; set config.scene.views")
  return dict.fromkeys(chosen, SCENES[name](**settings))


def _keys(key: Array, batch: Batch) -> Array:
  return jax.vmap(partial(_fold, key))(jnp.arange(batch["image"].shape[0]))


def _fold(key: Array, data: Array) -> Array:
  return jax.random.fold_in(key, data)


def _gaussian(sigma: Array, size: int) -> Array:
  """f32[size, size]: row i holds the taps of a Gaussian around i, those beyond on the border."""
  def tap(distance):
    return jnp.exp(-0.5 * (distance / jnp.maximum(sigma, 1e-3)) ** 2)

  places = jnp.arange(size)
  taps = tap(jnp.arange(size + 1))
  beyond = jnp.cumsum(taps[::-1])[::-1][1:]  # of the taps further away than i, for i = 0, 1, ...
  weights = tap(places[:, None] - places)
  weights = weights.at[:, 0].add(beyond).at[:, -1].add(beyond[::-1])
  return weights / (2 * jnp.sum(taps) - 1)
