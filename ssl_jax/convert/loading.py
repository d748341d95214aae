"""`load`: any file of an encoder that is known here -> an Encoder."""

import os
import pathlib
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssl_jax.convert import dialects, layouts, onnx_graph, ours, tf_bundle, zoo
from ssl_jax.convert.arrays import read_npz, read_safetensors
from ssl_jax.convert.encoder import Encoder, make_encoder
from ssl_jax.convert.pickles import read_pickle
from ssl_jax.convert.torch_legacy import read_torch_legacy
from ssl_jax.convert.torch_zip import read_torch_zip
from ssl_jax.errors import UserError


def load(path: str | os.PathLike) -> Encoder:
  """Reads the encoder of a checkpoint, ours or another's; docs/checkpoints.md has the table.

  Args:
    path: A workdir; a file of PyTorch (.pth, .pt, .ckpt, .torch, zip or older), safetensors, npz,
      ONNX, a pickle of Haiku or Detectron2; a TensorFlow checkpoint (its prefix, .index or folder);
      or zoo:NAME.

  Raises:
    UserError: There is nothing, it is of no known layout, damaged, or a tensor of the backbone is
      missing, of another shape or not accounted for.
  """
  where = str(path)
  if where.startswith("zoo:"):
    return from_zoo(where.removeprefix("zoo:"))
  file = pathlib.Path(where)
  if ours.is_workdir(where):
    return ours.read_workdir(where)
  bundle = tf_bundle.index_of(file)
  if not bundle and not file.is_file():
    raise UserError(f"{where} holds no checkpoint; name the workdir of a pretraining run, a "
                    "checkpoint file, or zoo:NAME")
  try:
    return _READERS["bundle" if bundle else _format(file)](file)
  except UserError:
    raise
  except Exception as error:  # a damaged file may lead to any type
    raise UserError(f"{where} cannot be read ({ours.first_line(error)}); fetch it again") from error


def from_zoo(name: str) -> Encoder:
  """A published encoder. Raises a UserError also where its file is of another layout."""
  path = zoo.fetch(name)
  encoder, layout = load(path), zoo.ZOO[name].layout
  if encoder.meta["method"] != layout:
    raise UserError(f"zoo:{name}: {path} is of the layout {encoder.meta['method']}, not {layout}; "
                    "delete it to fetch it again")
  return encoder


def _format(file: pathlib.Path) -> str:
  """The format of a file, by its first bytes."""
  with open(file, "rb") as opened:
    head = opened.read(16)
  if head[:4] == b"PK\x03\x04":
    try:
      with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    except zipfile.BadZipFile:
      return "npz" if file.suffix == ".npz" else "torch_zip"
    return "npz" if any(name.endswith(".npy") for name in names) else "torch_zip"
  if head[8:9] == b"{" or file.suffix == ".safetensors":
    return "safetensors"
  if file.suffix == ".onnx" or head[:1] == b"\x08":
    return "onnx"
  if head[:1] == b"\x80":
    return "torch_legacy" if head[2:13] == b"\x8a\nl\xfc\x9cF\xf9 j\xa8P" else "pickle"
  if not head:
    raise UserError(f"{file} is empty; fetch it again")
  raise UserError(f"{file} is of no known format (it begins with {head[:8]!r}); known: PyTorch, "
                  "safetensors, npz, ONNX, TensorFlow checkpoints, pickles of Haiku")


def _pickled(file: pathlib.Path) -> Encoder:
  tree = read_pickle(file)
  state = tree.get("experiment_state", tree) if isinstance(tree, Mapping) else {}
  if isinstance(state, Mapping) and "online_params" in state:
    return from_haiku(state["online_params"], state.get("online_state", {}), str(file))
  return from_torch(tree, str(file))


_READERS = {
    "torch_zip": lambda file: from_torch(read_torch_zip(file), str(file)),
    "torch_legacy": lambda file: from_torch(read_torch_legacy(file), str(file)),
    "pickle": _pickled,
    "safetensors": lambda file: from_arrays(*read_safetensors(file), str(file)),
    "npz": lambda file: from_arrays(*read_npz(file), str(file)),
    "bundle": lambda file: from_simclr(tf_bundle.read_tf_bundle(file), str(file)),
    "onnx": onnx_graph.read_onnx,
}


def from_arrays(arrays: Mapping[str, np.ndarray], meta: dict[str, Any] | None, where: str
                ) -> Encoder:
  """Of named arrays: ours if they come with our description, else by PyTorch's names."""
  return ours.from_export(arrays, meta, where) if meta else from_torch(arrays, where)


def from_torch(tree: Mapping[str, Any], where: str) -> Encoder:
  """Of what a file of PyTorch holds, by the layout that knows most of its tensors."""
  tree = tree if isinstance(tree, Mapping) else {}
  best: tuple[dict, Any, dict] = ({}, None, {})
  for layout in layouts.LAYOUTS:
    for container in layout.containers:
      tensors = layouts.find(tree, container)
      for prefix in layout.prefixes:
        theirs = layouts.match(layout, prefix, tensors)
        if len(theirs) > len(best[0]):
          best = theirs, layout, tensors
  theirs, layout, tensors = best
  if layout is None:
    keys = [str(key) for key in list(tree)[:5]]
    raise UserError(f"{where} is of no known layout: no tensor of a ResNet under its keys "
                    f"({', '.join(keys)}, ...); docs/checkpoints.md lists what is known")
  found = {name: _turned(name, tensors[their]) for name, their in theirs.items()}
  used = set(theirs.values())
  return make_encoder(layout, found, theirs, [n for n in tensors if n not in used], where)


def _turned(name: str, array: np.ndarray) -> np.ndarray:
  """A kernel from PyTorch's [D,C,k,k] to [k,k,C,D]; others as they are."""
  return array.transpose(2, 3, 1, 0) if name.endswith("/kernel") and array.ndim == 4 else array


def from_haiku(params: Mapping[str, Any], state: Mapping[str, Any], where: str) -> Encoder:
  """Of BYOL's online parameters and state: {module: {name: array}}, norms f32[1,1,1,C]."""
  theirs, arrays, others = {}, {}, []
  kinds = {"w": "kernel", "scale": "scale", "offset": "bias"}
  statistics = {"/~/mean_ema": "mean", "/~/var_ema": "var"}
  rows = [(module, leaf, kinds.get(leaf), value) for module, leaves in params.items()
          for leaf, value in leaves.items()]
  for module, leaves in state.items():
    for end, kind in statistics.items():
      if module.endswith(end):
        rows.append((module.removesuffix(end), "average", kind, leaves["average"]))
  for module, leaf, kind, value in rows:
    path = dialects.haiku_module(module)
    if path and kind:
      name = f"{path}/{kind}"
      theirs[name] = f"{module}/{leaf}"
      arrays[name] = value if kind == "kernel" else value.reshape(-1)
    else:
      others.append(f"{module}/{leaf}")
  if not arrays:
    raise UserError(f"{where} is a pickle of Haiku, but not of BYOL's ResNet; it holds "
                    f"{', '.join(list(params)[:3])}, ...")
  return make_encoder(layouts.BYOL, arrays, theirs, others, where)


def from_simclr(tensors: Mapping[str, np.ndarray], where: str) -> Encoder:
  """Of SimCLR's TensorFlow variables, which are numbered in the order of their making."""
  kernels = {name: array.shape for name, array in tensors.items()
             if re.fullmatch(r"base_model/conv2d(_\d+)?/kernel", name)}
  if not kernels:
    raise UserError(f"{where} is a TensorFlow checkpoint, but not of SimCLR's ResNet; it holds "
                    f"{', '.join(list(tensors)[:3])}, ...")
  theirs = {name: their for name, their in dialects.simclr_names(kernels).items()
            if their in tensors}
  found = {name: tensors[their] for name, their in theirs.items()}
  others = [name for name in tensors if name not in set(theirs.values())]
  return make_encoder(layouts.SIMCLR_TF, found, theirs, others, where)


