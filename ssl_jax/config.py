"""Every check on what the user wrote, before a device is touched or a file is made."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ssl_jax.errors import UserError, nearest
from ssl_jax.evaluate.finetune import PROTOCOLS
from ssl_jax.evaluate.many_shot import SOLVERS
from ssl_jax.evaluate.probe import RECIPES
from ssl_jax.methods import options_of
from ssl_jax.schedules import UNITS


def _duration(name: str) -> dict[str, Any]:
  return {f"{name}_{unit}": float for unit in UNITS}


# What may stand in a config: a type, a tuple of choices, or a schema of its own. A field with the
# schema OPTIONS holds a name and options, which whoever is named checks.
OPTIONS = "options"
COMMON = {
    "task": ("pretrain", "linear", "knn", "backgrounds", "analysis"), "seed": int, "init": str,
    "data": str, "data_dir": str, "train_split": str, "test_split": str,
}
PRETRAIN = COMMON | {
    "choose": bool, "canvas": int, "loader_threads": int, "loader_workers": int,
    "masks": str, "resident": ("auto", "yes", "no"), "resident_limit_mb": int,
    "batch_size": int, "micro_batches": int, "mesh": {"fsdp": int}, **_duration("total"),
    "method": OPTIONS, "model": OPTIONS, "views": OPTIONS, "scene": OPTIONS, "optimizer": OPTIONS,
    "schedule": {"name": ("cosine", "cosine_by_epoch", "warmup_cosine_by_epoch", "steps",
                          "constant"),
                 "base_lr": float, "scaling": str, "boundaries_percent": tuple, "factor": float,
                 **_duration("warmup")},
    "log_every_steps": int, **_duration("eval_every"), **_duration("checkpoint_every"),
    "keep": int, "tensorboard": bool, "profile": bool,
    "evaluate": {"knn_k": int, "knn_temperature": float, "online_images": int, "batch_size": int,
                 "final": bool, "baselines": bool, "few_per_class": int, "few_draws": int},
}
LINEAR = COMMON | {
    "recipe": tuple(RECIPES), "batch_size": int, "epochs": float, "learning_rates": tuple,
    "validation_percent": float, "views": OPTIONS,
}
KNN = COMMON | {"batch_size": int, "k": tuple, "temperature": float}
BACKGROUNDS = COMMON | {"batch_size": int}
ANALYSIS = COMMON | {
    "images": int, "batch_size": int, "others": tuple,
    "attention": {"images": int, "window": int, "stride": int},
    "inversion": {"images": int, "steps": int, "learning_rate": float, "channels": tuple,
                  "judge": str},
}
SUITE = {
    "task": ("suite",), "init": str, "seed": int, "data_dir": str, "sets": tuple,
    "protocols": tuple, "view": {"preset": str, "size": int, "proportion": float},
    "batch_size": int, "report": bool, "solver": tuple(SOLVERS), "slots": int, "knn_k": int,
    "shots": tuple,
    "episodes": int, "corrupted_images": int, "severities": tuple,
}
FINETUNE = {
    "task": ("finetune",), "init": str, "seed": int, "data_dir": str, "set": str,
    "protocol": tuple(PROTOCOLS), "steps": int, "batch_size": int, "candidates": tuple,
}
SCHEMAS = {"pretrain": PRETRAIN, "linear": LINEAR, "knn": KNN, "backgrounds": BACKGROUNDS,
           "analysis": ANALYSIS, "suite": SUITE, "finetune": FINETUNE}

# Wherever these stand in a config, by their dotted names.
POSITIVE = ("micro_batches", "mesh.fsdp", "log_every_steps", "keep", "views.size",
            "method.temperature", "method.divergence_temperature", "method.queue",
            "method.hidden", "method.output", "method.depth", "method.negatives",
            "evaluate.knn_k", "evaluate.knn_temperature", "evaluate.online_images",
            "evaluate.batch_size",
            "evaluate.few_per_class", "evaluate.few_draws", "temperature", "slots", "knn_k",
            "episodes", "images", "attention.images", "attention.stride", "inversion.images",
            "inversion.steps")
NOT_NEGATIVE = ("attention.window", "inversion.learning_rate",
                "scene.probability", "scene.blur", "scene.radius", "scene.threshold",
                "scene.least", "scene.most",
                "seed", "canvas", "loader_threads", "loader_workers", "resident_limit_mb",
                "batch_size", "epochs", "validation_percent", "schedule.base_lr",
                "method.decay", "method.alpha", "model.norm_group", "optimizer.weight_decay",
                "optimizer.momentum", "optimizer.clip_norm")
# What a resumed run may change: it alters neither the parameters nor the order of the data.
MAY_CHANGE = ("mesh", "log_every_steps", "keep", "tensorboard", "profile", "resident",
              "resident_limit_mb", "loader_threads", "loader_workers", "data_dir",
              *_duration("checkpoint_every"))


def resolve(config: ConfigDict, overrides: Sequence[str] = ()) -> dict[str, Any]:
  """Returns the config as a plain dictionary, checked.

  Args:
    config: What the config file gave, with the command line's values in it.
    overrides: The dotted names that the command line set. A duration among them replaces the same
      duration in other units.

  Raises:
    UserError: A field is unknown, of the wrong type, or out of range.
  """
  plain = json.loads(config.to_json_best_effort())
  for name in overrides:
    *path, leaf = name.split(".")
    owner = plain
    for part in path:
      owner = owner[part]
    stem, _, unit = leaf.rpartition("_")
    if unit in UNITS:
      for other in set(UNITS) - {unit}:
        rival = ".".join([*path, f"{stem}_{other}"])
        if f"{stem}_{other}" in owner and rival not in overrides:
          owner[f"{stem}_{other}"] = None
  validate(plain)
  return plain


def validate(config: Mapping[str, Any]) -> None:
  """Checks names, types and ranges of a whole config. Raises a UserError at the first mistake."""
  task = config.get("task")
  if task not in SCHEMAS:
    raise UserError(f"config.task is {task!r}; {nearest(str(task), SCHEMAS)}")
  _check(config, SCHEMAS[task], "config")
  # A probe and a protocol take their own batch size for 0.
  for name in (*POSITIVE, *(("batch_size",) if task not in ("linear", "finetune") else ())):
    _check_range(config, name, lambda value: value > 0, "must be above 0")
  for name in NOT_NEGATIVE:
    _check_range(config, name, lambda value: value >= 0, "must not be negative")
  if task == "pretrain":
    _check_micro_batches(config)
    known = options_of(config["method"].get("name", ""))
    for option in config["method"]:
      if option not in {"name", *known}:
        raise UserError(f"config.method.{option}: {config['method']['name']} has no such option; "
                        f"{nearest(option, known)}")
  elif not config["init"]:
    raise UserError("config.init is empty; name the workdir of a pretrained encoder: "
                    "--config.init=WORKDIR")


def _check_micro_batches(config: Mapping[str, Any]) -> None:
  count, batch_size = config["micro_batches"], config["batch_size"]
  group = config["model"].get("norm_group") or 1
  if count > 1 and batch_size % (count * group):
    whole = f" of whole BatchNorm groups (config.model.norm_group is {group})" if group > 1 else ""
    raise UserError(f"config.micro_batches is {count}, which does not divide a batch of "
                    f"{batch_size} images into equal parts{whole}; change one of them")


def _check(config: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> None:
  for name in schema:
    if name not in config:
      raise UserError(f"{path}.{name} is missing; start from configs/common.py, which has all")
  for name, value in config.items():
    here = f"{path}.{name}"
    if name not in schema:
      raise UserError(f"{here} is not a field of this task; {nearest(name, schema)}")
    kind = schema[name]
    if kind == OPTIONS or isinstance(kind, dict):
      if not isinstance(value, Mapping):
        raise UserError(f"{here} is {value!r}, must be a group of fields")
      if kind != OPTIONS:
        _check(value, kind, here)
    elif value is not None:
      _check_value(value, kind, here)


def _check_value(value: Any, kind: Any, here: str) -> None:
  if isinstance(kind, tuple):
    if value not in kind:
      raise UserError(f"{here} is {value!r}; {nearest(str(value), kind)}")
    return
  allowed = {float: (int, float), tuple: (list, tuple)}.get(kind, kind)
  if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
    raise UserError(f"{here} is {value!r}, must be of type {kind.__name__}")


def _check_range(config: Mapping[str, Any], name: str, holds: Callable[[float], bool],
                 rule: str) -> None:
  value = config
  for part in name.split("."):
    value = value.get(part) if isinstance(value, Mapping) else None
  if value is None:
    return
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    raise UserError(f"config.{name} is {value!r}, must be a number")
  if not holds(value):
    raise UserError(f"config.{name} is {value}, {rule}")


def config_hash(config: Mapping[str, Any]) -> str:
  """Twelve hexadecimal digits that tell configs apart."""
  return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
  """The dotted name of the first field in which two configs would train something else, or None.

  A field that the older config lacks came with a later version, where it was as its default says:
  it is no difference.
  """
  return _difference(old, new, SCHEMAS.get(new.get("task"), {}), "")


def _difference(old, new, schema, path: str) -> str | None:
  for name in sorted({*old, *new} - set(MAY_CHANGE)):
    kind = schema.get(name)
    if name not in old and schema:
      continue
    if isinstance(kind, dict) and isinstance(new.get(name), Mapping):
      inner = _difference(old[name], new[name], kind, f"{path}{name}.")
      if inner:
        return inner
    elif old.get(name) != new.get(name):
      return f"{path}{name}"
  return None


def check_resumable(old: Mapping[str, Any], new: Mapping[str, Any], workdir: str) -> None:
  """Refuses to go on in a workdir with a config that would train something else.

  Raises:
    UserError: Names the first field that differs, and both values.
  """
  name = difference(old, new)
  if name:
    before, now = old, new
    for part in name.split("."):
      before, now = before.get(part), now.get(part)
    raise UserError(
        f"{workdir} was started with config.{name}={before!r}, now it is {now!r}; set it as it was "
        "to resume, or name another --workdir")
