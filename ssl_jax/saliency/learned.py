"""A network that learns saliency from the classical estimators, and none but them.

In the manner of Nguyen et al., "DeepUSPS: Deep Robust Unsupervised Saliency Prediction With
Self-Supervision", NeurIPS 2019, whose masks ReLICv2 uses (arXiv:2201.05119): the maps of several
estimators are pseudo-labels, the network finds what they agree on over many images, and its own
predictions, averaged over rounds of training, become the labels of the next round.

This is our reading, smaller than theirs. One network learns the mean of the maps, where DeepUSPS
trains one for each estimator and then another on the mean of what those predict; predictions are
not refined by a conditional random field; the network starts from random numbers. ReLICv2 tells of
its own only that it is "in the manner of"; the numbers that neither states are `Teaching`'s.
"""

import json
import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from ssl_jax.errors import UserError
from ssl_jax.models.saliency_net import SaliencyNet
from ssl_jax.types import Array, Params

_META = "meta"


class Teaching(NamedTuple):
  """How the network is trained.

  Attributes:
    epochs: Passes over the images in each round.
    rounds: How often the labels are refined by predictions (DeepUSPS: 2, by memory).
    keep: Share of the old labels in the refined ones (DeepUSPS's 0.7, by memory).
    threshold: A pixel is foreground where its label is above so many times the image's mean
      (DeepUSPS's 1.5, by memory); the further from it, the more the pixel counts.
    beta2: beta^2 of the F-measure that is maximised (DeepUSPS: 0.3).
    learning_rate: Peak of AdamW's, with a cosine over each round.
    weight_decay: AdamW's.
    batch_size: Images of a step.
  """

  epochs: int = 5
  rounds: int = 2
  keep: float = 0.7
  threshold: float = 1.5
  beta2: float = 0.3
  learning_rate: float = 3e-3
  weight_decay: float = 1e-4
  batch_size: int = 16


def to_targets(labels: Array, threshold: float) -> tuple[Array, Array]:
  """What a soft label says, and how surely.

  Args:
    labels: f32[B,S,S] in [0, 1].
    threshold: Times the mean of each image.

  Returns:
    Foreground f32[B,S,S], 0 or 1; and weights f32[B,S,S] in [0, 1]: 0 at the threshold, 1 for a
    label of 0 or of 1, and 0 all over an image in which no estimator found anything.
  """
  middle = jnp.minimum(threshold * labels.mean((1, 2), keepdims=True), 0.9)
  above = labels > middle
  reach = jnp.where(above, 1 - middle, jnp.maximum(middle, 1e-6))
  found = above.any((1, 2), keepdims=True)
  return above.astype(jnp.float32), found * jnp.abs(labels - middle) / reach


def f_loss(probability: Array, target: Array, weight: Array, beta2: float) -> Array:
  """1 - F_beta of soft predictions, weighted by pixel: three f32[B,S,S] -> f32[].

  F_beta = (1 + beta^2) P R / (beta^2 P + R) for each image, P and R being precision and recall
  with probabilities in the place of counts; then the mean. An image without any weight adds 0.
  """
  chex.assert_equal_shape([probability, target, weight])
  hit = (weight * target * probability).sum((1, 2))
  claimed, there = ((weight * x).sum((1, 2)) for x in (probability, target))
  # P R / (b P + R) with P = hit / claimed and R = hit / there.
  score = (1 + beta2) * hit / jnp.maximum(beta2 * there + claimed, 1e-6)
  return jnp.mean(jnp.where(there > 0, 1 - score, 0))


def distort(key: Array, images: Array, labels: Array) -> tuple[Array, Array]:
  """Mirrors half of the images with their labels, and changes all colours of each image.

  What stands out does so whatever its colour is. Each channel gets a gain from 0.5 to 1.5 and an
  offset of up to 0.2; the ranges are ours.

  Args:
    key: The source of randomness.
    images: f32[B,S,S,3] in [0, 1].
    labels: f32[B,S,S].
  """
  mirror, gain, offset = jax.random.split(key, 3)
  mirrored = jax.random.bernoulli(mirror, 0.5, (len(images), 1, 1))
  labels = jnp.where(mirrored, labels[:, :, ::-1], labels)
  images = jnp.where(mirrored[..., None], images[:, :, ::-1], images)
  shape = (len(images), 1, 1, 3)
  images = (images * jax.random.uniform(gain, shape, minval=0.5, maxval=1.5)
            + jax.random.uniform(offset, shape, minval=-0.2, maxval=0.2))
  return jnp.clip(images, 0, 1), labels


def train(images: np.ndarray, labels: np.ndarray, key: Array, teaching: Teaching, *,
          module: SaliencyNet | None = None,
          say: Callable[[str], None] = lambda line: None) -> Params:
  """Trains the network.

  Args:
    images: u8[N,S,S,3].
    labels: f32[N,S,S] in [0, 1], the mean of the estimators' maps.
    key: The source of all randomness.
    teaching: The numbers.
    module: The network.
    say: Told a line after each epoch.

  Returns:
    The parameters.
  """
  module = module or SaliencyNet()
  chex.assert_shape(labels, images.shape[:3])
  count, batch = len(images), min(teaching.batch_size, len(images))
  steps = teaching.epochs * (count // batch)
  optimizer = optax.adamw(optax.cosine_decay_schedule(teaching.learning_rate, max(steps, 1)),
                          weight_decay=teaching.weight_decay)
  params = module.init(jax.random.fold_in(key, 0), jnp.zeros((1, *images.shape[1:])))

  @jax.jit
  def step(params, state, key, image, label):
    image, label = distort(key, image / 255.0, label)
    target, weight = to_targets(label, teaching.threshold)

    def loss(params):
      probability = jax.nn.sigmoid(module.apply(params, image))
      return f_loss(probability, target, weight, teaching.beta2)

    value, gradient = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, value

  order = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
  labels = labels.astype(np.float32)
  for turn in range(teaching.rounds + 1):
    if turn:
      predicted = predict(module, params, images, batch)
      labels = teaching.keep * labels + (1 - teaching.keep) * predicted
    state = optimizer.init(params)
    for epoch in range(teaching.epochs):
      losses = []
      for rows in order.permutation(count)[:count // batch * batch].reshape(-1, batch):
        key, here = jax.random.split(key)
        params, state, value = step(params, state, here, images[rows], labels[rows])
        losses.append(value)
      say(f"round {turn + 1}/{teaching.rounds + 1}  epoch {epoch + 1}/{teaching.epochs}  "
          f"loss {np.mean(losses):.4f}")
  return params


def predict(module: SaliencyNet, params: Params, images: np.ndarray, batch: int) -> np.ndarray:
  """Foreground probabilities of images u8[N,S,S,3]: f32[N,S,S]."""
  run = jax.jit(lambda params, image: jax.nn.sigmoid(module.apply(params, image / 255.0)))
  found = []
  for start in range(0, len(images), batch):
    part = images[start:start + batch]
    padded = np.pad(part, [(0, batch - len(part)), (0, 0), (0, 0), (0, 0)])
    found.append(np.asarray(run(params, padded))[:len(part)])
  return np.concatenate(found)


def save(path: str | os.PathLike, params: Params, size: int,
         module: SaliencyNet | None = None) -> None:
  """Writes a network and the side of the images it works on to a .npz file."""
  arrays = {jax.tree_util.keystr(where): np.asarray(leaf)
            for where, leaf in jax.tree_util.tree_leaves_with_path(params)}
  meta = json.dumps({"size": size, "widths": list((module or SaliencyNet()).widths)})
  target = pathlib.Path(path)
  temporary = target.with_name(f".{target.name}.tmp{os.getpid()}.npz")
  np.savez(temporary, **{_META: np.array(meta)}, **arrays)
  temporary.replace(target)


def load(path: str | os.PathLike) -> Callable[[np.ndarray], np.ndarray]:
  """Reads a network as an estimator: an image u8[h,w,3] -> f32[h,w] in [0, 1].

  Raises:
    UserError: The file is not one that `save` wrote.
  """
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = dict(file)
    meta = json.loads(str(arrays.pop(_META)))
    module, size = SaliencyNet(tuple(meta["widths"])), int(meta["size"])
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    params = jax.tree_util.tree_map_with_path(
        lambda where, leaf: jnp.asarray(arrays[jax.tree_util.keystr(where)], leaf.dtype).reshape(
            leaf.shape), shapes)
  except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
    raise UserError(f"weights {path}: no network of `python -m ssl_jax.saliency.teach` "
                    f"({' '.join(str(error).split())}); train one") from error
  run = jax.jit(lambda image: jax.nn.sigmoid(module.apply(params, image / 255.0)))

  def estimate(image: np.ndarray) -> np.ndarray:
    square = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    found = Image.fromarray(np.asarray(run(np.asarray(square)[None]))[0])
    return np.asarray(found.resize(image.shape[1::-1], Image.Resampling.BILINEAR))

  return estimate
