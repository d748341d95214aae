"""From a checked config and its data to the parts that run: method, optimizer, views, encoder."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssl_jax import data
from ssl_jax.augment.presets import PRESETS, preset
from ssl_jax.augment.scenes import scenes
from ssl_jax.augment.views import Scene, View, batched, together
from ssl_jax.errors import UserError, nearest
from ssl_jax.evaluate.online import watch
from ssl_jax.methods import make_method
from ssl_jax.models import make_backbone, stem_for
from ssl_jax.optim import make_optimizer, scaled_learning_rate
from ssl_jax.schedules import (
  constant,
  cosine_by_epoch,
  step_decay,
  steps,
  warmup_cosine,
  warmup_cosine_by_epoch,
)
from ssl_jax.step import MicroBatches
from ssl_jax.types import Array, Batch, Method, Monitor, Run, Schedule, Views

TEXTURES = 32  # photographs that a pool of textures holds: they are constants of the program
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Parts(NamedTuple):
  """What a pretraining run consists of.

  Attributes:
    method: What is trained.
    views: What it is shown, each image in its place, as `Run` has it.
    optimizer: How.
    learning_rate: Its schedule, step -> rate.
    peak: The learning rate after scaling.
    monitor: What is watched.
    micro: In how many parts the batch goes through the network.
    total_steps: The length of the run.
    canvas: Side of the square that the images are stored in.
    meta: What a checkpoint tells of its encoder.
    masked: Whether the batches must hold masks.
  """

  method: Method
  views: Callable[[Array, Batch], Views]
  optimizer: optax.GradientTransformation
  learning_rate: Schedule
  peak: float
  monitor: Monitor
  micro: MicroBatches
  total_steps: int
  canvas: int
  meta: dict[str, Any]
  masked: bool = False


def open_split(config: Mapping[str, Any], which: str) -> data.Source:
  """The images of one of a config's splits, such as "train_split"."""
  return data.open_source(config["data"], config[which], data_dir=config["data_dir"] or None)


def in_scenes(config: Mapping[str, Any], source: data.Source) -> data.Source:
  """The images for training, with their masks if the scene needs them; evaluation never does."""
  return source if config["scene"]["name"] == "none" else data.with_masks(source, config["masks"])


def split_name(options: Mapping[str, Any], name: str = "name") -> tuple[str, dict[str, Any]]:
  """A named group of options as (name, the options that are not None)."""
  rest = {k: v for k, v in options.items() if k != name and v is not None}
  return options[name], rest


def backbone(options: Mapping[str, Any]):
  """The backbone of a config's or checkpoint's `model` group, its stem already chosen."""
  name, options = split_name(options)
  norm, dtype = norm_of(options), dtype_of(options)
  options.pop("norm_group", None)
  return make_backbone(name, **options | {"norm": norm, "dtype": dtype})


def norm_of(options: Mapping[str, Any]) -> str | int:
  """"global", or the number of images that share BatchNorm statistics."""
  return options.get("norm_group") or "global"


def dtype_of(options: Mapping[str, Any]):
  """The compute dtype. Raises a UserError if it is unknown."""
  name = options.get("dtype", "float32")
  if name not in DTYPES:
    raise UserError(f"config.model.dtype is {name!r}; {nearest(name, DTYPES)}")
  return DTYPES[name]


def canvas_for(config: Mapping[str, Any], source: data.Source) -> int:
  """The side of the stored square: as asked for, the images' own if they are small squares, else
  8/7 of the crop, so that the crop of an evaluation (224 of 256) is not enlarged."""
  if config["canvas"]:
    return config["canvas"]
  shape, size = source.image_shape, config["views"]["size"]
  if shape and shape[0] == shape[1] and shape[0] <= 2 * size:
    return shape[0]
  return round(size * 8 / 7)


def training_views(group: Mapping[str, Any]) -> dict[str, View]:
  """The named views of a config's `views` group."""
  name, options = split_name(group, "preset")
  for theirs in ("evaluation", "proportion"):
    options.pop(theirs, None)
  return preset(name, **options)


def training_scenes(config: Mapping[str, Any], view_names: Sequence[str], canvas: int
                    ) -> dict[str, Scene]:
  """The scene of each view, as a config's `scene` group says; its `textures` names a source."""
  name, options = split_name(config["scene"])
  if options.get("textures"):
    pool = data.open_source(options["textures"], "train", data_dir=config["data_dir"] or None)
    pool = data.load_all(data.sample(pool, TEXTURES, config["seed"]), canvas)
    options["textures"] = {kind: jnp.asarray(pool[kind]) for kind in ("image", "size")}
  return scenes(name, view_names, **options)


def evaluation_view(group: Mapping[str, Any]) -> dict[str, Any]:
  """How images are shown to the frozen encoder: the preset `evaluation` at the training size, with
  the training's mean and std. Images of up to 64 pixels are shown whole unless `proportion` says
  otherwise, as is usual at that size; larger ones lose an eighth."""
  defaults = inspect.signature(PRESETS[group["preset"]]).parameters
  normalisation = {k: list(group.get(k) or defaults[k].default) for k in ("mean", "std")}
  proportion = group.get("proportion") or (1.0 if group["size"] <= 64 else 0.875)
  options = {"size": group["size"], "proportion": proportion, **normalisation}
  preset(group.get("evaluation") or "center", **options)  # raises where it is wrong
  return {"preset": group.get("evaluation") or "center", **options}


def duration(name: str, config: Mapping[str, Any], source_size: int, batch_size: int,
             total_steps: int | None = None) -> int:
  """A config's duration in steps."""
  return steps(name, config, batch_size=batch_size, num_examples=source_size,
               total_steps=total_steps)


def learning_rate(config: Mapping[str, Any], num_examples: int, total: int
                  ) -> tuple[Schedule, float]:
  """The schedule of the learning rate, and its peak after scaling to the batch."""
  schedule, batch_size = config["schedule"], config["batch_size"]
  peak = scaled_learning_rate(schedule["base_lr"], batch_size, schedule["scaling"])
  name = schedule["name"]
  if name == "cosine":
    warmup = duration("warmup", schedule, num_examples, batch_size, total)
    return warmup_cosine(peak, warmup=warmup, total=total), peak
  if name == "cosine_by_epoch":
    per_epoch = num_examples // batch_size
    return cosine_by_epoch(peak, steps_per_epoch=per_epoch, epochs=-(-total // per_epoch)), peak
  if name == "warmup_cosine_by_epoch":
    per_epoch = num_examples // batch_size
    warmup = duration("warmup", schedule, num_examples, batch_size, total)
    return warmup_cosine_by_epoch(peak, warmup=warmup, steps_per_epoch=per_epoch,
                                  epochs=-(-total // per_epoch)), peak
  if name == "steps":
    boundaries = tuple(int(p * total / 100) for p in schedule["boundaries_percent"])
    return step_decay(peak, boundaries=boundaries, factor=schedule["factor"]), peak
  return constant(peak), peak


def parts(config: Mapping[str, Any], source: data.Source) -> Parts:
  """Builds a pretraining run of a checked config on the images of `source`."""
  size, batch_size = config["views"]["size"], config["batch_size"]
  total = duration("total", config, len(source), batch_size)
  if total < 1:
    raise UserError(f"config.total is {total} steps of {batch_size} images; make the run longer "
                    "(--config.total_steps=N) or the batch smaller")
  model = dict(config["model"])
  if model.get("stem") == "auto":
    model["stem"] = stem_for(model["name"], size)
  canvas = canvas_for(config, source)
  views = training_views(config["views"])
  staged = training_scenes(config, tuple(views), canvas)
  run = Run(
      backbone=backbone(model), views=together(views, staged), view_names=tuple(views),
      batch_size=batch_size, total_steps=total, num_classes=len(source.class_names),
      norm=norm_of(model), dtype=dtype_of(model))
  method_name, method_options = split_name(config["method"])
  method = make_method(method_name, run, **method_options)
  rate, peak = learning_rate(config, len(source), total)
  optimizer_name, optimizer_options = split_name(config["optimizer"])
  return Parts(
      method=method, views=run.views,
      optimizer=make_optimizer(optimizer_name, rate, **optimizer_options),
      learning_rate=rate, peak=peak,
      monitor=watch(method.online[0][0], len(source.class_names)),
      micro=MicroBatches(config["micro_batches"], model.get("norm_group") or 1),
      total_steps=total, canvas=canvas,
      meta={"method": method_name, "model": model,
            "preprocessing": {"canvas": canvas, **evaluation_view(config["views"])}},
      masked=bool(staged))


def encode(module, preprocessing: Mapping[str, Any]) -> Callable[[Any, Batch], Array]:
  """The frozen encoder as a function `(variables, batch) -> f32[B,F]` of stored images.

  Args:
    module: A backbone.
    preprocessing: An evaluation preset with its options, as `evaluation_view` gives them.

  Returns:
    A function of {"params", "batch_stats"} and {"image": u8[B,S,S,3], "size": i32[B,2]}; BatchNorm
    uses its running statistics.
  """
  name, options = split_name(preprocessing, "preset")
  options.pop("canvas", None)
  (view,) = preset(name, **options).values()
  show = batched(view)

  def apply(variables, batch: Batch) -> Array:
    images = show(jax.random.key(0), batch)  # the key is not used
    return module.apply(variables, images, train=False)["features"]

  return apply
