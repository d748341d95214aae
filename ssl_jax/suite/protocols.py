"""The protocols of the suite: features of a set's parts in, figures out."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ssl_jax import data
from ssl_jax.augment.corruptions import ALEXNET_ERRORS, CORRUPTIONS, corrupt
from ssl_jax.data.transfer_sets import SHIFTED, TransferSet
from ssl_jax.errors import UserError
from ssl_jax.evaluate.few_shot import CLASSIFIERS, draw_episodes, few_shot
from ssl_jax.evaluate.knn import knn_votes
from ssl_jax.evaluate.many_shot import SOLVERS, Labelled, labelled, many_shot
from ssl_jax.evaluate.metrics import METRICS, interval
from ssl_jax.suite.encoder import Encoder, Features
from ssl_jax.suite_files import read_arrays, write_arrays

Figure = dict[str, Any]


class Job(NamedTuple):
  """All that a protocol may look at."""

  name: str
  entry: TransferSet
  classes: int
  sources: dict[str, data.Source]
  parts: dict[str, Features]
  encoder: Encoder
  config: Mapping[str, Any]
  workdir: epath.Path
  results: dict[str, Any]

  def labelled(self, part: str) -> Labelled:
    """A part as features and classes; images without a class are left out."""
    held = self.parts[part]
    if "targets" in held:
      return Labelled(held["features"], held["targets"].astype(bool))
    return labelled(held["features"], held["label"], self.classes)

  def predictions(self, of: str | None = None) -> epath.Path:
    """Where the linear classifier of a set is kept."""
    return self.workdir / "predictions" / f"{of or self.name}-linear.npz"

  def sizes(self, *parts: str) -> dict[str, int]:
    return {part: len(self.parts[part]["features"]) for part in parts}


def linear(job: Job) -> dict[str, Figure]:
  """Many-shot logistic regression; keeps the classifier and its test predictions."""
  solver = job.config["solver"]
  solve = partial(SOLVERS[solver], slots=job.config["slots"]) if solver == "converged" else (
      SOLVERS[solver])
  found = many_shot(*(job.labelled(part) for part in ("train", "validation", "test")),
                    metric=job.entry.metric, solver=solve)
  held = job.parts["test"]
  keep = np.ones(len(held["label"]), bool) if "targets" in held else held["label"] >= 0
  write_arrays(job.predictions(), {
      "logits": found.logits, "probabilities": found.probabilities, "kernel": found.kernel,
      "bias": found.bias,
      **{k: held[k][keep] for k in ("label", "index", "targets") if k in held}})
  job.results["data"][job.name]["predictions"] = str(job.predictions().relative_to(job.workdir))
  return {"linear": {
      "protocol": f"logistic regression ({solver}) on features as they are, one of 45 L2 penalties "
                  "chosen on validation, refit to train and validation, one score on test",
      "metric": job.entry.metric, "value": found.value, "interval": found.interval,
      "chosen": {"l2": found.l2, "validation": float(found.validation.max())},
      "sizes": job.sizes("train", "validation", "test")}}


def neighbours(job: Job) -> dict[str, Figure]:
  """k-NN of the test images among training and validation images."""
  bank = _joined(job, ("train", "validation"))
  test, k = job.labelled("test"), min(job.config["knn_k"], len(bank["label"]))
  votes = np.asarray(knn_votes(bank["features"], bank["label"], test.features,
                               num_classes=job.classes, k=k, temperature=0.1))
  return {"knn": {
      "protocol": f"cosine, {k} neighbours among train and validation, votes exp(s/0.1)",
      "metric": "top1", "value": METRICS["top1"](votes, test.target),
      "interval": interval("top1", votes, test.target), "chosen": {"k": k},
      "sizes": job.sizes("train", "validation", "test")}}


def episodes(job: Job) -> dict[str, Figure]:
  """Few-shot episodes of all parts that the papers pool."""
  pool, figures = _joined(job, job.entry.pool), {}
  for shots in job.config["shots"]:
    names = {classifier: f"few_shot_{shots}_{classifier}" for classifier in CLASSIFIERS}
    try:
      drawn = draw_episodes(pool["label"], shots=shots, episodes=job.config["episodes"],
                            seed=job.config["seed"])
    except UserError as error:
      job.results["data"][job.name]["left_out"] |= dict.fromkeys(names.values(), str(error))
      continue
    for classifier, name in names.items():
      start = time.perf_counter()
      found = few_shot(pool["features"], drawn, classifier=classifier)
      figures[name] = {
          "protocol": f"5 ways, {shots} shots, 15 queries a class, {len(drawn.classes)} episodes, "
                      + ("nearest prototype on raw features" if classifier == "prototypes" else
                         "logistic regression, C = 1, on features of unit length"),
          "metric": "top1", "value": found["top1"], "interval": found["interval"],
          "chosen": {"classes_too_small": drawn.dropped.tolist()},
          "sizes": {"pool": len(pool["label"])}, "seconds": time.perf_counter() - start}
  return figures


def shifted(job: Job) -> dict[str, Figure]:
  """The linear classifier of another set, on this set's images and its own classes."""
  of, entry = job.entry.of, job.entry
  if not job.predictions(of).exists():
    raise UserError(f"{job.name} is judged by the linear classifier of {of}, which this workdir "
                    f"lacks; add {of} to config.sets")
  kept = read_arrays(job.predictions(of))
  names = job.results["data"][of]["class_names"]
  table = class_table(job.sources["test"].class_names, names)
  held = job.parts["test"]
  rows = held["label"] >= 0
  target = table[held["label"][rows]]
  scores = held["features"][rows] @ kept["kernel"] + kept["bias"]
  if entry.restricted:
    scores = np.where(target.any(axis=0), scores, -np.inf)
  return {"shifted": {
      "protocol": f"the linear classifier of {of}, nothing fitted here"
                  + (", predictions among the classes that occur" if entry.restricted else ""),
      "metric": "top1", "value": METRICS["top1"](scores, target),
      "interval": interval("top1", scores, target), "chosen": {},
      "sizes": {"test": int(rows.sum())}}}


def class_table(names: tuple[str, ...], reference: tuple[str, ...] | list[str]) -> np.ndarray:
  """Which classes of a reference set a set's classes are: bool[C, C of the reference].

  A name stands for the equal name, or for the numbers that it lists as "409; 530".

  Raises:
    UserError: A class is none of the reference's.
  """
  place = {name: i for i, name in enumerate(reference)}
  table = np.zeros((len(names), len(reference)), bool)
  for row, name in enumerate(names):
    pieces = [name] if name in place else name.split("; ")
    for piece in pieces:
      number = place.get(piece, int(piece) if piece.isdigit() else -1)
      if not 0 <= number < len(reference):
        raise UserError(f"class {name!r} is none of the {len(reference)} classes that the "
                        "classifier knows; judge by a set that has it")
      table[row, number] = True
  return table


def corrupted(job: Job) -> dict[str, Figure]:
  """The set's linear classifier on its test images, corrupted in 15 ways at 5 severities."""
  if not job.predictions().exists():
    raise UserError(f"corruptions of {job.name} are judged by its linear classifier, which is not "
                    "there; add linear to config.protocols")
  kept = read_arrays(job.predictions())
  source = data.sample(job.sources["test"], job.config["corrupted_images"], job.config["seed"])
  root = jax.random.key(job.config["seed"])

  def top1(change) -> float:
    held = job.encoder.features(source, change)
    return METRICS["top1"](held["features"] @ kept["kernel"] + kept["bias"],
                           held["label"][:, None] == np.arange(job.classes))

  def spoil(name, severity, batch):
    # An image is known by its place in the set, whatever the batches.
    images = _corrupt(name, root, batch["image"], batch["index"], jnp.int32(severity))
    return batch | {"image": np.asarray(images)}

  severities = job.config["severities"]
  table = {name: [top1(partial(spoil, name, severity)) for severity in severities]
           for name in CORRUPTIONS}
  accuracy = {name: float(np.mean(row)) for name, row in table.items()}
  errors = np.array([1 - value / 100 for value in accuracy.values()])
  value = float(np.mean(list(accuracy.values())))
  return {"corruptions": {
      "protocol": f"the linear classifier on test images with 15 corruptions at severities "
                  f"{', '.join(map(str, severities))}; mean accuracy",
      "metric": "top1", "value": value, "interval": None,
      "chosen": {"clean": top1(lambda batch: batch), "mean_error": 100 - value,
                 # ImageNet-C's mCE divides by AlexNet's errors on ImageNet, and is of no other set.
                 "mce": float(100 * np.mean(errors / ALEXNET_ERRORS))
                 if job.name == "imagenet" else None,
                 "accuracy": accuracy, "by_severity": table},
      "sizes": {"test": len(source)}}}


@partial(jax.jit, static_argnums=0)
def _corrupt(name, key, images, index, severity):
  return corrupt(name, key, images, index, severity)


def _joined(job: Job, parts: tuple[str, ...]) -> Features:
  return {key: np.concatenate([job.parts[part][key] for part in parts])
          for key in ("features", "label")}


# What a run of `config.protocols` does; which a set allows is told by `allowed`.
PROTOCOLS: dict[str, Callable[[Job], dict[str, Figure]]] = {
  "linear": linear, "knn": neighbours, "few_shot": episodes, "corruptions": corrupted,
  "shifted": shifted}


def allowed(entry: TransferSet) -> tuple[str, ...]:
  """The protocols that make sense for a set."""
  if entry.rule == SHIFTED:
    return ("shifted",)
  several = ("linear",) if entry.metric == "map11" else ("linear", "knn", "corruptions")
  return several + (("few_shot",) if entry.pool else ())
