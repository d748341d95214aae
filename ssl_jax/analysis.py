"""The task of configs/transfer/analysis.py: what an encoder's layers hold, and where it looks."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ssl_jax import build, data, figures
from ssl_jax.augment.views import batched
from ssl_jax.checkpoint import load_encoder
from ssl_jax.evaluate.attention import attentive_diffusion, occlusion_map
from ssl_jax.evaluate.calibration import reliability, temperature_scaling
from ssl_jax.evaluate.collapse import feature_std, rank_me
from ssl_jax.evaluate.geometry import alignment, class_distances, uniformity
from ssl_jax.evaluate.inversion import channel_errors, invert, perceptual_distance
from ssl_jax.evaluate.linear import linear_probe
from ssl_jax.evaluate.logistic import logistic_regression
from ssl_jax.evaluate.similarity import minibatch_cka
from ssl_jax.frozen import Frozen, freeze
from ssl_jax.types import Array

Layers = dict[str, np.ndarray]  # name -> f32[N, C], averaged over places
LAST = "features"
FEWEST = 4  # images that unbiased CKA needs


def analyse(config: Mapping[str, Any], workdir: epath.Path, saved, train: data.Source,
            test: data.Source) -> dict[str, Any]:
  """All analyses of one encoder, with figures as PNG files in the workdir.

  Returns:
    {"linear": accuracy and calibration of a probe on the features, "layers": figures by layer,
    "features": figures of the features, "similarity": CKA of layers by encoder, "attention",
    "inversion"}.
  """
  seed, classes = config["seed"], len(train.class_names)
  train, test = (data.sample(s, config["images"], seed) for s in (train, test))
  frozen = freeze(saved.variables, saved.meta)
  first, second = (layers_of(frozen, s, config["batch_size"]) for s in (train, test))
  results = {"linear": probe(first, second, classes, seed, workdir),
             "layers": by_layer(first, second, classes, seed, workdir),
             "features": spread(frozen, saved.meta, second[0][LAST], test, config),
             "similarity": similarity(second[0], test, config, workdir)}
  results["attention"] = attention(frozen, test, config["attention"], workdir)
  results["inversion"] = inversion(frozen, test, config["inversion"], seed, workdir)
  return results


def layers_of(frozen: Frozen, source: data.Source, batch_size: int) -> tuple[Layers, np.ndarray]:
  """The stages' outputs averaged over places, and the labels i32[N].

  The last stage's mean is what the encoder gives as its features, and has their name.
  """
  @jax.jit
  def pooled(images: Array) -> dict[str, Array]:
    return {name: x if x.ndim == 2 else x.astype(jnp.float32).mean((1, 2))
            for name, x in frozen.layers(images).items()}

  found, labels = [], []
  for batch in data.epoch(source, batch_size=batch_size, canvas=frozen.canvas):
    outputs = pooled(frozen.show(_images(batch), frozen.size))
    found.append({name: np.asarray(x)[batch["valid"]] for name, x in outputs.items()})
    labels.append(batch["label"][batch["valid"]])
  names = [*sorted(set(found[0]) - {LAST})[:-1], LAST]
  return {name: np.concatenate([f[name] for f in found]) for name in names}, np.concatenate(labels)


def probe(train: tuple[Layers, np.ndarray], test: tuple[Layers, np.ndarray], classes: int,
          seed: int, workdir: epath.Path) -> dict[str, float]:
  """Accuracy of a linear probe on the features, and whether its confidence can be believed."""
  (x, y), (test_x, test_y) = ((layers[LAST], labels) for layers, labels in (train, test))
  scores = linear_probe((x, y), (test_x, test_y), num_classes=classes, seed=seed)
  scale = np.sqrt(np.square(x - x.mean(0)).mean())  # what the probe's penalty is relative to
  labelled = y >= 0
  fitted = logistic_regression(x[labelled] / scale, y[labelled], jnp.array([scores["l2"]]),
                               num_classes=classes)
  labelled = test_y >= 0
  logits, test_y = fitted.logits(test_x[labelled] / scale)[0], test_y[labelled]
  diagram = tuple(np.asarray(v) for v in reliability(jax.nn.softmax(logits), test_y))
  figures.write_png(figures.reliability({"test": {"linear": diagram}}), workdir / "reliability.png")
  return scores | temperature_scaling(logits, test_y, seed=seed)


def by_layer(train: tuple[Layers, np.ndarray], test: tuple[Layers, np.ndarray], classes: int,
             seed: int, workdir: epath.Path) -> dict[str, dict[str, float]]:
  """A linear probe, distances of the classes and RankMe of every layer."""
  results = {}
  for name in test[0]:
    distances = class_distances(test[0][name], test[1], num_classes=classes)
    results[name] = {
        "probe_top1": linear_probe((train[0][name], train[1]), (test[0][name], test[1]),
                                   num_classes=classes, seed=seed)["top1"],
        "rank_me": float(rank_me(test[0][name])), "width": test[0][name].shape[1],
        **{k: float(v) for k, v in distances.items()}}
  for figure, label in (("probe_top1", "linear probe, %"), ("ratio", "within / between classes")):
    figures.write_png(
        figures.stages({"encoder": {n: r[figure] for n, r in results.items()}}, label),
        workdir / f"layers_{figure}.png")
  return results


def spread(frozen: Frozen, meta: Mapping[str, Any], features: np.ndarray, source: data.Source,
           config: Mapping[str, Any]) -> dict[str, float]:
  """How the features lie on the sphere; alignment is of two views as the encoder was trained on,
  and is left out where its checkpoint does not tell them."""
  results = {"uniformity": float(uniformity(features)), "feature_std": float(feature_std(features)),
             "rank_me": float(rank_me(features))}
  group = meta["config"].get("views")
  if not group:
    return results
  plain = dict(group) | {"mean": (0.0,) * 3, "std": (1.0,) * 3}  # `frozen` normalises
  views = list(build.training_views(plain).values())[:2]
  shown = [jax.jit(batched(view)) for view in (views * 2)[:2]]
  key, pairs = jax.random.key(config["seed"]), []
  for i, batch in enumerate(data.epoch(source, batch_size=config["batch_size"],
                                       canvas=frozen.canvas)):
    keys = jax.random.split(jax.random.fold_in(key, i))
    pairs.append([np.asarray(frozen.encode(show(k, _images(batch))))[batch["valid"]]
                  for show, k in zip(shown, keys)])
  a, b = (np.concatenate(side) for side in zip(*pairs))
  return results | {"alignment": float(alignment(a, b))}


def similarity(layers: Layers, source: data.Source, config: Mapping[str, Any],
               workdir: epath.Path) -> dict[str, dict[str, dict[str, float]]]:
  """CKA of the layers with each other, and with those of other encoders on the same images."""
  sides = {"itself": layers}
  for path in config["others"]:
    other = load_encoder(path)
    sides[epath.Path(path).name] = layers_of(
        freeze(other.variables, other.meta), source, config["batch_size"])[0]
  size = config["batch_size"]
  count = len(layers[LAST])
  size = size if count >= size else max(count, FEWEST)
  results, maps = {}, {}
  for name, side in sides.items():
    found = minibatch_cka(
        ({k: v[i:i + size] for k, v in layers.items()}, {k: v[i:i + size] for k, v in side.items()})
        for i in range(0, count - size + 1, size))
    results[name] = {a: {b: found[a, b] for b in side} for a in layers}
    maps[name] = (list(layers), list(side), np.array([[found[a, b] for b in side] for a in layers]))
  figures.write_png(figures.heat_maps(maps), workdir / "cka.png")
  return results


def attention(frozen: Frozen, source: data.Source, settings: Mapping[str, Any],
              workdir: epath.Path) -> dict[str, Any]:
  """Occlusion maps of some images and their attentive diffusion."""
  k = settings["window"] or max(3, round(frozen.size * 10 / 224))
  images = np.clip(_shown(frozen, source, settings["images"], frozen.size + 2 * (k - 1)), 0, 1)
  maps = [np.asarray(occlusion_map(frozen.encode, image, fill=np.float32(frozen.mean), window=k,
                                   stride=settings["stride"])) for image in images]
  inner = [image[k - 1:1 - k, k - 1:1 - k] for image in images]
  figures.write_png(figures.gallery({
      "image": inner, "attention": [figures.overlay(*pair) for pair in zip(inner, maps)]}),
      workdir / "attention.png")
  np.savez(workdir / "attention.npz", images=inner, maps=maps)
  each = [float(attentive_diffusion(m)) for m in maps]
  return {"attentive_diffusion": float(np.mean(each)), "each": each, "window": k,
          "stride": settings["stride"]}


def inversion(frozen: Frozen, source: data.Source, settings: Mapping[str, Any], seed: int,
              workdir: epath.Path) -> dict[str, Any]:
  """Images found from the last map before pooling, and how far they are from the true ones.

  The perceptual distance is in the stages of `settings["judge"]`, an encoder's workdir, or of this
  encoder itself.
  """
  images = np.clip(_shown(frozen, source, settings["images"], frozen.size), 0, 1)
  maps = [name for name, x in jax.eval_shape(frozen.layers, images).items() if x.ndim == 4]
  target = max(maps, default=LAST)

  def encode(images: Array) -> Array:
    return frozen.layers(images)[target]

  found = np.stack([
      invert(jax.random.fold_in(jax.random.key(seed), i), encode, image, steps=settings["steps"],
             learning_rate=settings["learning_rate"], channels=tuple(settings["channels"])).image
      for i, image in enumerate(images)])
  judge = frozen
  if settings["judge"]:
    saved = load_encoder(settings["judge"])
    judge = freeze(saved.variables, saved.meta)
  distance = perceptual_distance(
      lambda x: {k: v for k, v in judge.layers(x).items() if v.ndim == 4}, images, found)
  figures.write_png(figures.gallery({"image": images, "from features": found}),
                    workdir / "inversion.png")
  red, green, blue = np.asarray(channel_errors(images, found)).mean(0).tolist()
  return {"mse_red": red, "mse_green": green, "mse_blue": blue, "layer": target,
          "perceptual": float(np.mean(distance)), "judge": settings["judge"] or "itself",
          "steps": settings["steps"]}


def _shown(frozen: Frozen, source: data.Source, count: int, size: int) -> np.ndarray:
  batch = next(data.epoch(source, batch_size=count, canvas=frozen.canvas))
  return np.asarray(frozen.show(_images(batch), size))[batch["valid"]]


def _images(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  return {name: batch[name] for name in ("image", "size")}
