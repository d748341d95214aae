"""`save`: an Encoder -> a file of another library, and the way back as a check."""

import json
import os
import pathlib
import pickle
import shutil
from collections.abc import Callable

import numpy as np

from ssl_jax.convert import dialects
from ssl_jax.convert.arrays import KEY, write_npz, write_safetensors
from ssl_jax.convert.dialects import TORCH, Dialect
from ssl_jax.convert.encoder import Encoder, arrays_of
from ssl_jax.convert.loading import load
from ssl_jax.convert.onnx_writer import write_onnx
from ssl_jax.convert.structure import options_of
from ssl_jax.convert.torch_writer import write_torch
from ssl_jax.errors import UserError, nearest

# ResNets of torchvision and timm, with the stem of ImageNet.
ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def state_dict(encoder: Encoder, dialect: Dialect, counters: bool = True) -> dict[str, np.ndarray]:
  """The tensors as PyTorch has them: kernels [D,C,k,k], in the order of its modules.

  Args:
    encoder: What to convert.
    dialect: How tensors are called.
    counters: Whether to add num_batches_tracked, which PyTorch's BatchNorm has.

  Raises:
    UserError: PyTorch's ResNet would compute something else with these tensors.
  """
  _must_be_torch(encoder)
  found: dict[str, np.ndarray] = {}
  for name, array in _in_order(arrays_of(encoder.variables)).items():
    module, _, kind = name.rpartition("/")
    theirs = dialect(module)
    if kind == "kernel":
      array = array.transpose(3, 2, 0, 1)
    found[f"{theirs}.{TORCH[kind]}"] = np.ascontiguousarray(array)
    if kind == "var" and counters:
      found[f"{theirs}.num_batches_tracked"] = np.zeros((), np.int64)
  return found


def _in_order(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """By stage, block and layer, projections last; of a norm scale, bias, mean, var."""
  kinds = ("kernel", "scale", "bias", "mean", "var")

  def place(name):
    module, _, kind = name.rpartition("/")
    block, _, layer = module.rpartition("/")
    stage, _, number = block.removeprefix("stage").partition("_block")
    last = layer[-1:] if layer[-1:].isdigit() else "9"
    return (int(stage or 0), int(number or 0), last, "norm" in layer, kinds.index(kind))

  return dict(sorted(arrays.items(), key=lambda item: place(item[0])))


def _must_be_torch(encoder: Encoder) -> None:
  options = options_of(encoder.meta["model"])
  reasons = {
      "padding": "TensorFlow's padding" if options["padding"] != "torch" else "",
      "block": "" if options["block"] in ("basic", "bottleneck") else f"{options['block']} blocks",
      "stem": "a stem of three convolutions" if options["stem"] == "deep" else "",
      "shortcut": "projections that torchvision has not" if (
          options["shortcut"] == "every_stage" and options["block"] == "basic") else ""}
  reason = next((reason for reason in reasons.values() if reason), "")
  if reason:
    raise UserError(f"{encoder.meta['model']['name']} has {reason}, which a ResNet of PyTorch does "
                    "not compute with the same weights; export onnx, safetensors or npz")


def to_torchvision(encoder: Encoder, out: pathlib.Path) -> None:
  """A state_dict of torchvision's names without fc, for `torch.load(weights_only=True)`."""
  write_torch(out, state_dict(encoder, dialects.torchvision))


def to_timm(encoder: Encoder, out: pathlib.Path) -> None:
  """A folder for `timm.create_model("local-dir:OUT")`: model.safetensors and config.json.

  Raises:
    UserError: timm has no such ResNet by name.
  """
  model, shown = encoder.meta["model"], encoder.meta["preprocessing"]
  options, default = options_of(model), options_of({"name": model["name"]})
  what = ("block", "blocks", "widths", "width", "stem_width", "stem", "strides")
  differs = [n for n in what if list(np.ravel(options[n])) != list(np.ravel(default[n]))]
  if differs or model["name"] not in ARCHITECTURES:
    raise UserError(f"timm has no {model['name']} with this {differs[0] if differs else 'name'}; "
                    "export torchvision for its names, or safetensors")
  state = state_dict(encoder, dialects.torchvision)
  out.mkdir(parents=True, exist_ok=True)
  write_safetensors(out / "model.safetensors", state, {"format": "pt"})
  size, width = shown["size"], 4 * 512 if options["block"] == "bottleneck" else 512
  (out / "config.json").write_text(json.dumps({
      "architecture": model["name"], "num_classes": 0, "num_features": width,
      "pretrained_cfg": {
          "input_size": [3, size, size], "mean": shown["mean"], "std": shown["std"],
          "crop_pct": shown["proportion"], "num_classes": 0, "pool_size": [7, 7],
          "interpolation": "bilinear" if shown["preset"] == "center" else "bicubic",
          "first_conv": "conv1", "classifier": "fc"}}, indent=2) + "\n")


def to_detectron2(encoder: Encoder, out: pathlib.Path) -> None:
  """A pickle of numpy arrays by Detectron2's names.

  It wants RESNETS.STRIDE_IN_1X1 False, PIXEL_MEAN and PIXEL_STD in units of 0 to 255, and RGB.
  """
  model = state_dict(encoder, dialects.detectron2, counters=False)
  with open(out, "wb") as file:
    pickle.dump({"model": model, "__author__": "ssl_jax", "matching_heuristics": True}, file, 4)


def to_safetensors(encoder: Encoder, out: pathlib.Path) -> None:
  """Our names and layout, with the description."""
  write_safetensors(out, arrays_of(encoder.variables), {KEY: json.dumps(encoder.meta)})


def to_npz(encoder: Encoder, out: pathlib.Path) -> None:
  """Our names and layout, with the description."""
  write_npz(out, arrays_of(encoder.variables), encoder.meta)


FORMATS: dict[str, Callable[[Encoder, pathlib.Path], None]] = {
    "torchvision": to_torchvision, "timm": to_timm, "safetensors": to_safetensors,
    "onnx": write_onnx, "npz": to_npz, "detectron2": to_detectron2}


def save(encoder: Encoder, to: str, out: str | os.PathLike) -> int:
  """Writes an encoder, reads it again, and compares every number.

  Args:
    encoder: What to write.
    to: A name of FORMATS.
    out: A file, or for timm a folder; it appears when it is complete.

  Returns:
    How many tensors came back equal, which are all.

  Raises:
    UserError: The format is unknown, or cannot hold this network.
  """
  if to not in FORMATS:
    raise UserError(f"--to={to} is not known; {nearest(to, FORMATS)}")
  out = pathlib.Path(out)
  if out.exists():
    raise UserError(f"{out} exists; name another --out")
  out.parent.mkdir(parents=True, exist_ok=True)
  part = out.with_name(f".{out.name}.{os.getpid()}{out.suffix}")
  try:
    FORMATS[to](encoder, part)
    count = compare(encoder, load(part / "model.safetensors" if part.is_dir() else part))
    part.replace(out)
  finally:
    if part.is_dir():
      shutil.rmtree(part)
    part.unlink(missing_ok=True)
  return count


def compare(one: Encoder, other: Encoder) -> int:
  """The number of tensors, if both have the same to the last bit.

  Raises:
    UserError: They differ.
  """
  a, b = arrays_of(one.variables), arrays_of(other.variables)
  wrong = [name for name in {*a, *b}
           if name not in a or name not in b or not np.array_equal(a[name], b[name])]
  if wrong:
    raise UserError(f"{len(wrong)} of {len(a)} tensors came back changed, such as {wrong[0]}")
  return len(a)


