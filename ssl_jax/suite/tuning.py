"""`task = "finetune"`: one set of the table, one protocol of fine-tuning, one figure."""

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ssl_jax import build, data, describe
from ssl_jax.assess import home_of
from ssl_jax.augment.crop import random_flip, random_resized_crop, resize_and_center_crop
from ssl_jax.augment.photometric import clip, normalise
from ssl_jax.augment.resample import bicubic_antialias, bilinear_antialias
from ssl_jax.augment.views import View, batched, chain, keyless
from ssl_jax.checkpoint import load_encoder
from ssl_jax.config import config_hash
from ssl_jax.data import transfer_sets
from ssl_jax.data.records import Chain
from ssl_jax.errors import UserError
from ssl_jax.evaluate.finetune import (
  PROTOCOLS,
  Candidate,
  Protocol,
  choose,
  predict,
  train_loop,
  tuning,
)
from ssl_jax.evaluate.metrics import METRICS, interval
from ssl_jax.logbook import write_json
from ssl_jax.sharding import global_batch, make_mesh, replicate
from ssl_jax.suite_files import RESULTS, read_results, write_arrays

METHODS = {"bilinear": bilinear_antialias, "bicubic": bicubic_antialias}


def views_of(protocol: Protocol, preprocessing: Mapping[str, Any]) -> dict[str, View]:
  """The protocol's "augmented" and "plain" view, at the encoder's size and colours."""
  least, method, share, keeps_aspect = protocol.crop
  size = preprocessing["size"]
  colours = {key: preprocessing[key] for key in ("mean", "std")}

  def plain(key, image, extent):
    del key
    if not keeps_aspect:  # the canvas as it lies
      extent = jnp.full(2, image.shape[0])
    return normalise(resize_and_center_crop(
        image, extent, size=size, resize=round(size * share), method=METHODS[method]), **colours)

  return {"plain": plain, "augmented": chain(
      partial(random_resized_crop, size=size, area=(least, 1.0), method=METHODS[method]),
      random_flip, keyless(clip), keyless(normalise, **colours))}


def parts_of(name: str, protocol: str, config: Mapping[str, Any]) -> dict[str, data.Source]:
  """The sources "tune", "judge", "fit" and "test" of a protocol.

  Ericsson et al. tune on train, judge on validation and refit to both. Islam et al. know train and
  test only; they judge on 30 % of train, the end of a permutation by RandomState(0). For the
  semi-supervised protocols ImageNet comes with the published lists (as TFDS has them); of other
  sets each class gives that share of its images, at least one.
  """
  opened = transfer_sets.open_parts(name, config["data_dir"] or None).sources
  if "train" not in opened:
    raise UserError(f"config.set={name!r} has nothing to train on; choose a set with a train part")
  whole = joined(opened["train"], opened["validation"])
  if protocol.startswith("semi"):
    percent = int(protocol.split("_")[1])
    if name == "imagenet":
      fit = data.open_source(f"tfds:imagenet2012_subset/{percent}pct", "train",
                             data_dir=config["data_dir"] or None)
    else:
      labels = transfer_sets.labels_of(whole.records)
      generator = np.random.RandomState(config["seed"])
      fit = transfer_sets.choose(whole, np.concatenate([
          generator.choice(rows, max(1, round(len(rows) * percent / 100)), replace=False)
          for rows in map(np.flatnonzero, labels == np.unique(labels[labels >= 0])[:, None])]),
          f"{percent} percent")
    return {"tune": fit, "judge": opened["test"], "fit": fit, "test": opened["test"]}
  if protocol.startswith("islam"):
    order = np.random.RandomState(0).permutation(len(whole))
    count = int(0.7 * len(whole))
    return {"tune": transfer_sets.choose(whole, order[:count], "tune"),
            "judge": transfer_sets.choose(whole, order[count:], "judge"),
            "fit": whole, "test": opened["test"]}
  return {"tune": opened["train"], "judge": opened["validation"], "fit": whole,
          "test": opened["test"]}


def joined(*sources: data.Source) -> data.Source:
  """Several sources of the same classes as one."""
  return dataclasses.replace(
      sources[0], records=Chain([s.records for s in sources]),
      fingerprint=" + ".join(s.fingerprint for s in sources))


def run(config: Mapping[str, Any], workdir: str | None) -> None:
  """Fine-tunes on one set; writes results.json and predictions/SET-finetune.npz.

  Raises:
    UserError: There is no such encoder, set or data, or the workdir holds results already.
  """
  entry, protocol = transfer_sets.find(config["set"]), PROTOCOLS[config["protocol"]]
  saved = load_encoder(config["init"])
  workdir = epath.Path(workdir or home_of(config["init"]) / (
      f"finetune-{config['set']}-{config['protocol']}"))
  if read_results(workdir):
    raise UserError(f"{workdir} holds results already; name another --workdir")
  sources = parts_of(config["set"], config["protocol"], config)
  start = time.perf_counter()
  tuner = Tuner(saved, protocol, entry.metric, sources, config)
  if config["candidates"]:
    protocol = protocol._replace(candidates=tuple(
        protocol.candidates[i] for i in config["candidates"]))

  def report(trial):
    print(f"{config['set']} rate {trial.candidate.learning_rate:g} decay "
          f"{trial.candidate.weight_decay:g} batch {trial.candidate.batch_size} "
          f"{'augmented' if trial.candidate.augmented else 'plain'}: {trial.score:.2f}", flush=True)

  def judged(candidate):
    found = tuner.run(candidate, "tune", protocol.tuning, "judge")
    return found["logits"], found["target"]

  chosen, trials = choose(protocol, judged, entry.metric, report)
  found = tuner.run(chosen, "fit", protocol.final, "test")
  value = METRICS[entry.metric](found["logits"], found["target"])
  workdir.mkdir(parents=True, exist_ok=True)
  write_json(workdir / "config.json", dict(config))
  write_arrays(workdir / "predictions" / f"{config['set']}-finetune.npz", found)
  write_json(workdir / RESULTS, {
      "task": "finetune", "init": config["init"], "step": saved.meta.get("step"),
      "set": config["set"], "seed": config["seed"], "config_hash": config_hash(config),
      **describe.provenance(make_mesh()), "finetune": {
          "protocol": f"{config['protocol']}: {protocol.words}", "metric": entry.metric,
          "value": value, "interval": interval(entry.metric, found["logits"], found["target"]),
          "chosen": chosen._asdict(), "steps": config["steps"] or None,
          "trials": [t.candidate._asdict() | {"score": None if math.isnan(t.score) else t.score}
                     for t in trials],
          "sizes": {part: len(s) for part, s in sources.items()},
          "seconds": time.perf_counter() - start}})
  print(f"{config['set']} finetune: {value:.2f} {entry.metric}\nresults: {workdir}/{RESULTS}")


class Tuner:
  """Trains candidates from the same pretrained backbone; compiles once for each batch size."""

  def __init__(self, saved, protocol: Protocol, metric: str, sources: dict[str, data.Source],
               config: Mapping[str, Any]):
    self.protocol, self.sources, self.config = protocol, sources, config
    preprocessing = dict(saved.meta["preprocessing"])
    self.canvas = build.canvas_for({"canvas": 0, "views": preprocessing}, sources["fit"])
    self.classes = len(sources["test"].class_names)
    self.views = {name: jax.jit(batched(view))
                  for name, view in views_of(protocol, preprocessing).items()}
    self.init, step, logits = tuning(
        build.backbone(saved.meta["model"]), protocol, num_classes=self.classes, metric=metric)
    self.step, self.logits = jax.jit(step, donate_argnums=2), jax.jit(logits)
    self.variables, self.key = saved.variables, jax.random.key(config["seed"])
    self.tables = {}

  def run(self, candidate: Candidate, fit: str, length: tuple[str, int], test: str
          ) -> dict[str, np.ndarray]:
    """Trains on one part and predicts another."""
    source, unit_and_count = self.sources[fit], length
    batch_size = min(self.config["batch_size"] or candidate.batch_size, len(source))
    devices = jax.local_devices()
    mesh = make_mesh(devices[:math.gcd(batch_size, len(devices))])
    per_epoch = max(len(source) // batch_size, 1)
    unit, count = unit_and_count
    total = self.config["steps"] or (count if unit == "steps" else count * per_epoch)
    blank = np.zeros((2, *jax.eval_shape(self.views["plain"], self.key, {
        "image": jax.ShapeDtypeStruct((2, self.canvas, self.canvas, 3), np.uint8),
        "size": jax.ShapeDtypeStruct((2, 2), np.int32)}).shape[1:]), np.float32)
    state = replicate(mesh, jax.device_get(jax.jit(self.init)(self.key, self.variables, blank)))
    with data.pipeline(source, batch_size=batch_size, canvas=self.canvas,
                       seed=self.config["seed"]) as batches:
      state = train_loop(
          self.step, state, self._fed(batches, fit, mesh),
          self.views["augmented" if candidate.augmented else "plain"], candidate,
          self.protocol.curve(total, per_epoch), total, jax.random.fold_in(self.key, 1))
    once = data.epoch(self.sources[test], batch_size=batch_size, canvas=self.canvas)
    return predict(self.logits, state, self.views["plain"], self._fed(once, test, mesh))

  def _fed(self, batches, part: str, mesh) -> Iterator[dict]:
    """Batches on the devices, with the classes of their images."""
    if part not in self.tables:
      self.tables[part] = transfer_sets.targets_of(self.sources[part].records, self.classes)
    for batch in batches:
      target = self.tables[part][batch["index"]]
      yield batch | global_batch(mesh, {
          "image": batch["image"], "size": batch["size"], "target": target})
