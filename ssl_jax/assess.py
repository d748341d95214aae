"""Frozen encoders judged on data: the figures of a run's end, and the tasks of configs/eval."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ssl_jax import build, data, describe
from ssl_jax.augment.views import batched
from ssl_jax.checkpoint import load_encoder, saved_steps
from ssl_jax.config import config_hash
from ssl_jax.data.composed.plans import VARIANTS
from ssl_jax.errors import UserError
from ssl_jax.evaluate.backgrounds import reliance, variant_split
from ssl_jax.evaluate.collapse import rank_me
from ssl_jax.evaluate.features import extract
from ssl_jax.evaluate.knn import knn
from ssl_jax.evaluate.linear import few_label_probe, linear_probe
from ssl_jax.evaluate.probe import RECIPES, sgd_probe
from ssl_jax.logbook import Logbook, write_json
from ssl_jax.sharding import global_batch, make_mesh, replicate
from ssl_jax.types import Array

Features = tuple[Array, Array]  # f32[N,F], i32[N]
Task = Callable[..., dict[str, Any]]  # (config, workdir, saved, train, test) -> results


def local_copy(tree):
  """The arrays of this process alone: every host evaluates by itself, on its own devices."""
  return jax.tree.map(
      lambda x: np.asarray(x.addressable_data(0)) if isinstance(x, jax.Array) else x, tree)


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
    return extract(functools.partial(self.encode, variables), batches)

  def encode(self, variables, batch) -> Array:
    """Embeds one host batch; the variables are on the devices already."""
    shown = {name: batch[name] for name in ("image", "size")}
    return self._encode(variables, global_batch(self.mesh, shown))


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
  """k-NN, a linear probe on all labels, and one on a few labels, of one kind of features.

  The last is left out where a class has fewer images than that.
  """
  found = {
      "knn": knn(*train, *test, num_classes=num_classes, k=min(settings["knn_k"], len(train[0])),
                 temperature=settings["knn_temperature"]),
      "linear": linear_probe(train, test, num_classes=num_classes, seed=seed)}
  if np.bincount(train[1], minlength=num_classes).min() >= settings["few_per_class"]:
    found["few_label"] = few_label_probe(
        train, test, num_classes=num_classes, seed=seed, per_class=settings["few_per_class"],
        draws=settings["few_draws"])
  return found


def protocol(settings: Mapping[str, Any]) -> dict[str, str]:
  """What the figures of `scores` are, in words."""
  few = settings["few_per_class"]
  return {
      "knn": f"cosine, k={settings['knn_k']}, votes exp(s/{settings['knn_temperature']})",
      "linear": "logistic regression on features of unaugmented images, its L2 penalty chosen on "
                "20 % of the training images, fitted again to all",
      "few_label": f"the same on {few} labels per class, the penalty by 5-fold cross-validation "
                   f"among them, mean of {settings['few_draws']} draws"}


def final(backbone, variables, preprocessing: Mapping[str, Any], train: data.Source,
          test: data.Source, config: Mapping[str, Any]) -> dict[str, Any]:
  """The figures of a run's end, with a random encoder and raw pixels beside them.

  The random encoder is the same network as it is before training.
  """
  settings, seed, classes = config["evaluate"], config["seed"], len(train.class_names)
  examiner = Examiner(backbone, preprocessing, settings["batch_size"])

  def judge(train_features, test_features):
    return scores(train_features, test_features, classes, settings, seed)

  results = {"protocol": protocol(settings)} | judge(
      *(examiner.features(variables, s) for s in (train, test)))
  if settings["baselines"]:
    size = preprocessing["size"]
    blank = jax.jit(lambda key: backbone.init(key, jnp.zeros((1, size, size, 3)), train=False))(
        jax.random.key(seed))
    results["baselines"] = {
        "random_init": judge(*(examiner.features(blank, s) for s in (train, test))),
        "pixels": judge(*(pixels(s, preprocessing["canvas"]) for s in (train, test)))}
  return results


def run(config: Mapping[str, Any], workdir: str | None, task: Task | None = None) -> None:
  """The tasks of configs/eval: judges the encoder of `config.init`, on its own data by default.

  Writes `results.json` in the workdir, by default a folder named like the task beside the encoder's
  checkpoints, or in runs/NAME for an encoder that is a file. `task` does it, by default the
  one of that name in `TASKS`.

  Raises:
    UserError: There is no such encoder or data, or the workdir holds results already.
  """
  saved = load_encoder(config["init"])
  if saved.report:
    print(f"{config['init']}: {saved.report}", flush=True)
  trained_on = saved.meta["config"]
  config = dict(config) | {
      name: config[name] or trained_on[name] for name in ("data", "data_dir", "train_split",
                                                          "test_split")}
  if not config["data"]:
    raise UserError(f"{config['init']} does not tell on which images to judge it; name them: "
                    "--config.data=SPEC")
  workdir = epath.Path(workdir or home_of(config["init"]) / config["task"])
  if (workdir / "results.json").exists():
    raise UserError(f"{workdir} holds results already; name another --workdir")
  train, test = (build.open_split(config, which) for which in ("train_split", "test_split"))
  if not train.class_names:
    raise UserError(f"{config['data']} has no labels to judge by; use data with a folder per class")
  workdir.mkdir(parents=True, exist_ok=True)
  write_json(workdir / "config.json", config)
  results = (task or TASKS[config["task"]])(config, workdir, saved, train, test)
  write_json(workdir / "results.json", results | {
      "task": config["task"], "init": config["init"], "step": saved.meta["step"],
      "data": config["data"], "seed": config["seed"], "config_hash": config_hash(config),
      **describe.provenance(make_mesh())})
  print(", ".join(f"{task} {name} {score:.2f}" for task, figures in results.items()
                  for name, score in figures.items() if name.startswith("top")))
  print(f"results: {workdir}/results.json")


def home_of(init: str) -> epath.Path:
  """Where the figures of an encoder go: its own workdir, or runs/NAME for a file or zoo:NAME."""
  path = epath.Path(init)
  return path if path.is_dir() and saved_steps(init) else epath.Path("runs") / (
      path.name.removeprefix("zoo:").split(".")[0] or path.name)


def knn_task(config: Mapping[str, Any], workdir: epath.Path, saved, train: data.Source,
             test: data.Source) -> dict[str, Any]:
  """k-NN accuracy for each number of neighbours."""
  del workdir
  examiner = Examiner(build.backbone(saved.meta["model"]), saved.meta["preprocessing"],
                      config["batch_size"])
  bank, queries = (examiner.features(saved.variables, source) for source in (train, test))
  return {f"knn_{k}": knn(*bank, *queries, num_classes=len(train.class_names), k=k,
                          temperature=config["temperature"]) for k in config["k"]}


def backgrounds_task(config: Mapping[str, Any], workdir: epath.Path, saved, train: data.Source,
                     test: data.Source) -> dict[str, Any]:
  """A linear probe, scored on the test images and on those with other backgrounds."""
  del workdir
  sets = {"original": test} | {v: data.open_source(
      config["data"], variant_split(config["test_split"], v), data_dir=config["data_dir"] or None)
      for v in VARIANTS}
  examiner = Examiner(build.backbone(saved.meta["model"]), saved.meta["preprocessing"],
                      config["batch_size"])
  bank = examiner.features(saved.variables, train)
  # The fit does not see the test images, so it is one classifier that all of these score.
  scores = {name: linear_probe(bank, examiner.features(saved.variables, source),
                               num_classes=len(train.class_names), seed=config["seed"])
            for name, source in sets.items()}
  return scores | {"background": reliance({name: score["top1"] for name, score in scores.items()})}


def linear_task(config: Mapping[str, Any], workdir: epath.Path, saved, train: data.Source,
                test: data.Source) -> dict[str, Any]:
  """A paper's augmented SGD probe; a part of the train split chooses its learning rate."""
  recipe, preprocessing = RECIPES[config["recipe"]], saved.meta["preprocessing"]
  seed, batch_size = config["seed"], config["batch_size"] or recipe.batch_size
  canvas = preprocessing["canvas"]
  held, rest = data.divide(train, round(len(train) * config["validation_percent"] / 100), seed)
  backbone = build.backbone(saved.meta["model"])
  examiner = Examiner(backbone, preprocessing, batch_size)
  shared = {k: v for k, v in preprocessing.items() if k in ("size", "mean", "std")}
  (view,) = build.preset(config["views"]["preset"], **shared | build.split_name(
      config["views"], "preset")[1]).values()
  total = int((config["epochs"] or recipe.epochs) * len(rest) // batch_size)
  variables = replicate(examiner.mesh, saved.variables)

  def encode(variables, images):
    return backbone.apply(variables, images, train=False)["features"]

  def once(source):
    return data.epoch(source, batch_size=examiner.batch_size, canvas=canvas)

  with data.pipeline(rest, batch_size=batch_size, canvas=canvas, seed=seed) as batches, Logbook(
      workdir, total_steps=total, batch_size=batch_size, tensorboard=False) as log:

    def report(step, metrics):
      log.advance(step)
      if step % max(total // 20, 1) == 0 or step == total:
        best = int(np.nanargmin(metrics["loss"]))
        log.row(step, {name: float(value[best]) for name, value in metrics.items()},
                batches.data_wait())

    scores = sgd_probe(
        recipe, encode, variables, batched(view),
        functools.partial(examiner.encode, variables),
        (global_batch(examiner.mesh, batch) for batch in batches), once(held), once(test),
        key=jax.random.key(seed), num_classes=len(train.class_names), total_steps=total,
        batch_size=batch_size, learning_rates=tuple(config["learning_rates"]) or None,
        report=report)
  heads = scores.pop("heads")
  np.savez(workdir / "classifier.npz", kernel=heads.kernel[0], bias=heads.bias[0])
  return {"linear": scores | {"recipe": config["recipe"]}}


TASKS = {"knn": knn_task, "linear": linear_task, "backgrounds": backgrounds_task}
