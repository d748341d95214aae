"""The transfer suite: one encoder, many data sets, every protocol that each set allows.

Features are extracted once for each part of each set, and kept; every figure is written as soon as
it is there, so the same command goes on where it was stopped. What the workdir holds is told in
`suite_files`.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ssl_jax import build, data, describe
from ssl_jax.assess import Examiner, home_of
from ssl_jax.augment.corruptions import ALEXNET_ERRORS, CORRUPTIONS, corrupt
from ssl_jax.checkpoint import load_encoder
from ssl_jax.config import config_hash
from ssl_jax.data import transfer_sets
from ssl_jax.data.transfer_sets import SETS, SHIFTED, TransferSet
from ssl_jax.errors import UserError, nearest
from ssl_jax.evaluate.features import extract
from ssl_jax.evaluate.few_shot import CLASSIFIERS, draw_episodes, few_shot
from ssl_jax.evaluate.knn import knn_votes
from ssl_jax.evaluate.many_shot import SOLVERS, Labelled, labelled, many_shot
from ssl_jax.evaluate.metrics import METRICS, interval
from ssl_jax.logbook import write_json
from ssl_jax.sharding import make_mesh, replicate
from ssl_jax.suite_files import (
  RESULTS,
  fingerprint,
  read_arrays,
  read_results,
  write_arrays,
  write_table,
)

Figure = dict[str, Any]
Features = dict[str, np.ndarray]  # features, label, index and, with several classes, targets


class Encoder:
  """A saved encoder that embeds images of any stored size."""

  def __init__(self, saved, preprocessing: Mapping[str, Any], batch_size: int):
    self.preprocessing = {k: v for k, v in preprocessing.items() if k != "canvas"}
    self.key = fingerprint(saved.variables, self.preprocessing)
    self.batch_size = batch_size
    self._module = build.backbone(saved.meta["model"])
    self._variables = saved.variables
    self._examiners: dict[int, tuple[Examiner, Any]] = {}

  def canvas(self, source: data.Source) -> int:
    """The side that images of a source are stored at."""
    return build.canvas_for({"canvas": 0, "views": self.preprocessing}, source)

  def encode(self, batch, canvas: int):
    """Features of a host batch."""
    if canvas not in self._examiners:
      examiner = Examiner(self._module, self.preprocessing | {"canvas": canvas}, self.batch_size)
      self._examiners[canvas] = examiner, replicate(examiner.mesh, self._variables)
    examiner, variables = self._examiners[canvas]
    return examiner.encode(variables, batch)

  def features(self, source: data.Source, change: Callable = lambda batch: batch) -> Features:
    """Embeds a source after `change`; unreadable images are left out."""
    canvas, index = self.canvas(source), []

    def watched() -> Iterator[dict]:
      devices = make_mesh().size
      for batch in data.epoch(source, batch_size=-(-self.batch_size // devices) * devices,
                              canvas=canvas):
        index.append(batch["index"][batch["valid"]])
        yield change(batch)

    features, label = extract(partial(self.encode, canvas=canvas), watched())
    return {"features": features, "label": label, "index": np.concatenate(index)}


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


def run(config: Mapping[str, Any], workdir: str | None) -> None:
  """Runs the suite; the same again goes on.

  Raises:
    UserError: There is no such encoder, set or protocol, the workdir holds another suite, or no
      set at all could be had.
  """
  for what, known in (("sets", SETS), ("protocols", PROTOCOLS)):
    for name in config[what]:
      if name not in known:
        raise UserError(f"config.{what} has {name!r}; {nearest(name, known)}")
  saved = load_encoder(config["init"])
  workdir = epath.Path(workdir or home_of(config["init"]) / "suite")
  encoder = Encoder(saved, view_of(config, saved.meta["preprocessing"]), config["batch_size"])
  results = begin(workdir, config, encoder, saved)
  names = sorted(config["sets"] or SETS, key=lambda name: SETS[name].rule == SHIFTED)
  for name in names:
    try:
      parts = transfer_sets.open_parts(name, config["data_dir"] or None)
      run_set(name, parts, encoder, config, workdir, results)
    except UserError as error:
      results["missing"][name] = str(error)
      print(f"{name}: left out; {error}", flush=True)
    else:
      results["missing"].pop(name, None)
    write_json(workdir / RESULTS, results)
  if not results["sets"]:
    raise UserError(f"none of {len(names)} sets could be judged; {workdir}/{RESULTS} tells why")
  results["complete"] = True
  write_json(workdir / RESULTS, results)
  print(f"results: {workdir}/{RESULTS}")


def view_of(config: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
  """How images are shown: as the encoder's checkpoint says, with what the config changes."""
  return dict(own) | {k: v for k, v in config["view"].items() if v}


def begin(workdir: epath.Path, config: Mapping[str, Any], encoder: Encoder, saved
          ) -> dict[str, Any]:
  """The results so far; {} of a new suite."""
  # More sets or protocols may be asked for later; whatever changes a figure may not.
  judged = {k: v for k, v in config.items()
            if k not in ("init", "sets", "protocols", "data_dir", "batch_size", "slots")}
  identity = {"encoder": encoder.key, "config_hash": config_hash(judged)}
  results = read_results(workdir)
  for key, value in identity.items():
    if results.get(key, value) != value:
      raise UserError(f"{workdir} holds the suite of another {key.replace('_', ' ')} "
                      f"({results[key]}, now {value}); name another --workdir")
  workdir.mkdir(parents=True, exist_ok=True)
  write_json(workdir / "config.json", dict(config))
  meta = saved.meta
  return {"task": "suite", "init": config["init"], "step": meta.get("step"),
          "method": meta.get("method"), "seed": config["seed"], **identity,
          **describe.provenance(make_mesh()), "complete": False,
          "sets": results.get("sets", {}), "data": results.get("data", {}),
          "missing": results.get("missing", {})}


def run_set(name: str, opened: transfer_sets.Parts, encoder: Encoder, config: Mapping[str, Any],
            workdir: epath.Path, results: dict[str, Any]) -> None:
  """Every protocol that is asked for, allowed and not done."""
  entry, sources = SETS[name], opened.sources
  told = results["data"].setdefault(name, {"left_out": {}, "done": []})
  wanted = [p for p in config["protocols"] or PROTOCOLS
            if p in allowed(entry) and p not in told["done"]]
  if not wanted:
    return
  if opened.rows:
    write_arrays(workdir / "splits" / f"{name}.npz", opened.rows)
  whole = next(iter(sources.values()))
  told |= {
      "title": entry.title, "papers": list(entry.papers), "classes": len(whole.class_names),
      "class_names": list(whole.class_names), "metric": entry.metric,
      "split_rule": transfer_sets.SPLIT_RULES[entry.rule], "warnings": opened.warnings,
      "sources": {part: {"spec": s.spec, "split": s.split} for part, s in sources.items()},
      "sizes": {part: len(s) for part, s in sources.items()}, "features": {}}
  parts = {}
  for part, source in sources.items():
    key = hashlib.sha256(f"{encoder.key} {source.fingerprint}".encode()).hexdigest()[:12]
    path = workdir / "features" / f"{name}-{part}-{key}.npz"
    if not path.exists():
      held = encoder.features(source)
      if entry.metric == "map11":
        held["targets"] = transfer_sets.targets_of(
            source.records, len(whole.class_names))[held["index"]]
      write_arrays(path, held)
    parts[part] = read_arrays(path)
    told["features"][part] = str(path.relative_to(workdir))
  job = Job(name, entry, len(whole.class_names), sources, parts, encoder, config, workdir, results)
  for protocol in wanted:
    start = time.perf_counter()
    figures = PROTOCOLS[protocol](job)
    seconds = time.perf_counter() - start
    for figure, row in figures.items():
      results["sets"].setdefault(name, {})[figure] = {"seconds": seconds} | row
      spread = "" if row["interval"] is None else f" ± {row['interval']:.2f}"
      print(f"{name} {figure}: {row['value']:.2f}{spread} {row['metric']}", flush=True)
    told["done"].append(protocol)
    write_json(workdir / RESULTS, results)
    write_table(workdir / "results.csv", results["sets"])
