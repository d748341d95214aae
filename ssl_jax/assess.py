"""Frozen encoders judged on data: the figures of a run's end, and the tasks of configs/eval."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import build, data
from ssl_jax.evaluate.collapse import rank_me
from ssl_jax.evaluate.features import extract
from ssl_jax.evaluate.knn import knn
from ssl_jax.evaluate.linear import few_label_probe, linear_probe
from ssl_jax.sharding import global_batch, make_mesh, replicate
from ssl_jax.types import Array

Features = tuple[Array, Array]  # f32[N,F], i32[N]


def local_copy(tree):
  """The arrays of this process alone: every host evaluates by itself, on its own devices."""
  return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)


class Examiner:
  """Embeds images with a backbone whose variables change; compiled once.

  Args:
    backbone: A Flax module.
    preprocessing: Its evaluation view and canvas, as a checkpoint tells them.
    batch_size: Images at a time.
  """

  def __init__(self, backbone, preprocessing: Mapping[str, Any], batch_size: int):
    devices = jax.local_devices()
    self.mesh = make_mesh(devices)
    self.canvas = preprocessing["canvas"]
    self.batch_size = -(-batch_size // len(devices)) * len(devices)
    self._encode = jax.jit(build.encode(backbone, preprocessing))

  def features(self, variables, source: data.Source) -> Features:
    """Embeds a source; unreadable images are left out."""
    variables = replicate(self.mesh, local_copy(variables))
    batches = data.epoch(source, batch_size=self.batch_size, canvas=self.canvas)
    return extract(
        lambda batch: self._encode(variables, global_batch(self.mesh, {
            k: batch[k] for k in ("image", "size")})), batches)


def pixels(source: data.Source, canvas: int) -> Features:
  """The images themselves as features, scaled to [0, 1]; grey ones count each pixel once."""
  def flat(batch):
    image = batch["image"].astype(np.float32) / 255
    grey = (image[..., :1] == image).all()
    return (image[..., :1] if grey else image).reshape(len(image), -1)
  return extract(flat, data.epoch(source, batch_size=1024, canvas=canvas))


def online(examiner: Examiner, variables, train: data.Source, test: data.Source,
           settings: Mapping[str, Any]) -> dict[str, float]:
  """k-NN accuracy of the test images among the training images, and RankMe of the features."""
  bank, queries = (examiner.features(variables, source) for source in (train, test))
  scores = knn(*bank, *queries, num_classes=len(train.class_names),
               k=min(settings["knn_k"], len(bank[0])), temperature=settings["knn_temperature"])
  return {"knn_top1": float(scores["top1"]), "rank_me": float(rank_me(queries[0]))}


def scores(train: Features, test: Features, num_classes: int, settings: Mapping[str, Any],
           seed: int) -> dict[str, dict[str, float]]:
  """k-NN, a linear probe on all labels, and one on a few labels, of one kind of features."""
  return {
      "knn": knn(*train, *test, num_classes=num_classes, k=min(settings["knn_k"], len(train[0])),
                 temperature=settings["knn_temperature"]),
      "linear": linear_probe(train, test, num_classes=num_classes, seed=seed),
      "few_label": few_label_probe(train, test, num_classes=num_classes, seed=seed,
                                   per_class=settings["few_per_class"],
                                   draws=settings["few_draws"]),
  }


def final(backbone, variables, preprocessing: Mapping[str, Any], train: data.Source,
          test: data.Source, config: Mapping[str, Any]) -> dict[str, Any]:
  """The figures of a run's end, with a random encoder and raw pixels beside them.

  The random encoder is the same network as it is before training.
  """
  settings, seed, classes = config["evaluate"], config["seed"], len(train.class_names)
  examiner = Examiner(backbone, preprocessing, settings["batch_size"])

  def judge(train_features, test_features):
    return scores(train_features, test_features, classes, settings, seed)

  results = judge(*(examiner.features(variables, s) for s in (train, test)))
  if settings["baselines"]:
    size = preprocessing["size"]
    blank = jax.jit(lambda key: backbone.init(key, jnp.zeros((1, size, size, 3)), train=False))(
        jax.random.key(seed))
    results["baselines"] = {
        "random_init": judge(*(examiner.features(blank, s) for s in (train, test))),
        "pixels": judge(*(pixels(s, preprocessing["canvas"]) for s in (train, test)))}
  return results
