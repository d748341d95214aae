"""ResNets as ONNX graphs, with BatchNorm apart or folded into the convolutions.

Names tell nothing in such a file: the graph is walked. A block is what lies between an addition and
the value that both its branches come from.

Messages by field number: github.com/onnx/onnx, onnx/onnx.proto.
"""

import json
import math
import mmap
import os
import re
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ssl_jax.convert.encoder import Encoder, make_encoder
from ssl_jax.convert.layouts import ONNX
from ssl_jax.convert.protobuf import Value, message, numbers, text
from ssl_jax.convert.structure import norm_of, shapes
from ssl_jax.errors import UserError

KEY = "ssl_jax"  # of the description among the metadata of our own exports
EPS = 1e-5  # of models.norm.BatchNorm
DTYPES = {1: np.float32, 6: np.int32, 7: np.int64, 10: np.float16, 11: np.float64,
          16: ml_dtypes.bfloat16}
PASSED = ("Identity", "Cast", "Dropout", "Transpose")  # change no number


class Node(NamedTuple):
  """A node of the graph."""

  kind: str
  inputs: list[str]
  outputs: list[str]
  attributes: dict[str, Any]


class Layer(NamedTuple):
  """A convolution with what follows it, as a norm in evaluation."""

  kernel: np.ndarray  # [D,C,k,k]
  norm: dict[str, np.ndarray]
  stride: int
  pads: tuple[int, int] | str  # (before, after), auto_pad, or in words what is neither
  relu: bool  # whether one follows


def read_onnx(path: str | os.PathLike) -> Encoder:
  """The ResNet of an ONNX file, up to its pooling.

  Folded norms come back as norms that add the bias and nothing else: exact in evaluation, while
  training goes on from other statistics. Unless our own export has put a description into the file,
  nothing in it says how images are to be shown; ImageNet's mean and deviation are assumed.

  Raises:
    UserError: It is damaged, or no ResNet that models.resnet can compute.
  """
  where = str(path)
  try:
    with open(path, "rb") as file:
      data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    model = message(data)  # ModelProto: graph = 7, metadata_props = 14
    graph = message(model[7][0])
    nodes = [_node(message(value)) for value in graph.get(1, [])]
    constants = dict(_tensor(message(value)) for value in graph.get(5, []))
  except (UserError, KeyError, ValueError, IndexError) as error:
    raise UserError(f"{where} is not a whole ONNX file ({error}); fetch it again") from error
  for node in nodes:
    if node.kind == "Constant" and "value" in node.attributes:
      constants[node.outputs[0]] = node.attributes["value"]
  layers, options = _walk(nodes, constants, where)
  found = {f"{name}/kernel": layer.kernel.transpose(2, 3, 1, 0) for name, layer in layers.items()}
  for name, layer in layers.items():
    found |= {f"{norm_of(name)}/{kind}": value for kind, value in layer.norm.items()}
  encoder = make_encoder(ONNX, found, {name: name for name in found}, (), where, **options)
  properties = {text(entry[1]): text(entry[2]) for entry in map(message, model.get(14, []))}
  if KEY not in properties:
    return encoder
  meta = json.loads(properties[KEY])
  if shapes(meta["model"]) != shapes(encoder.meta["model"]):
    raise UserError(f"{where} describes another network than its own; export it again")
  return encoder._replace(meta=meta)


def _node(fields: dict[int, list[Value]]) -> Node:
  # NodeProto: input = 1, output = 2, op_type = 4, attribute = 5.
  attributes = {}
  for value in map(message, fields.get(5, [])):
    # AttributeProto: name = 1, f = 2, i = 3, s = 4, t = 5, ints = 8.
    name = text(value[1])
    if 8 in value:
      attributes[name] = numbers(value[8])
    elif 5 in value:
      attributes[name] = _tensor(message(value[5][0]))[1]
    elif 4 in value:
      attributes[name] = text(value[4])
    elif 2 in value:
      attributes[name] = struct.unpack("<f", value[2][0])[0]
    elif 3 in value:
      attributes[name] = numbers(value[3])[0]
  return Node(text(fields[4]), [text([v]) for v in fields.get(1, [])],
              [text([v]) for v in fields.get(2, [])], attributes)


def _tensor(fields: dict[int, list[Value]]) -> tuple[str, np.ndarray | None]:
  """(name, array) of a TensorProto; None for kinds of numbers that no weight has."""
  # dims = 1, data_type = 2, float_data = 4, int64_data = 7, name = 8, raw_data = 9, location = 14.
  shape, name = numbers(fields.get(1, [])), text(fields.get(8, []))
  if fields.get(14, [0])[0] == 1:
    raise UserError(f"the tensor {name!r} lies in another file, which is not read; save it as one")
  dtype = DTYPES.get(fields.get(2, [0])[0])
  if dtype is None:
    return name, None
  if 9 in fields:
    flat = np.frombuffer(fields[9][0], dtype)
  elif 4 in fields:
    flat = np.concatenate([np.frombuffer(v, np.float32) for v in fields[4]])
  else:
    flat = np.array(numbers(fields.get(7, [])), dtype)
  if min([*shape, 0]) < 0 or flat.size != math.prod(shape):
    raise UserError(f"the tensor {name!r} of shape {tuple(shape)} has {flat.size} numbers")
  return name, flat.reshape(shape)


def _walk(nodes: list[Node], constants: Mapping[str, np.ndarray], where: str
          ) -> tuple[dict[str, Layer], dict[str, Any]]:
  """Our names of convolutions -> layers, and those options that the shapes do not tell."""
  makers = {output: node for node in nodes for output in node.outputs}

  def refuse(reason: str):
    return UserError(f"{where}: {reason}; only ResNets after He et al. 2016 can be converted")

  def branch(value: str, origins: set[str]) -> tuple[list[Layer], Any, str]:
    """The layers from one of `origins` to `value`, the padding of a max-pool, and that origin.

    Walks backwards: what follows a convolution is met before it.
    """
    layers, pool, norm, relu, behind = [], None, None, False, ""
    while value not in origins and value in makers:
      node = makers[value]
      if node.kind == "BatchNormalization":
        norm = _norm(node, constants)
      elif node.kind == "Conv":
        layers.insert(0, _layer(node, constants, norm, relu, refuse))
        norm, relu = None, False
      elif node.kind == "Pad" and behind == "Conv":
        layers[0] = _padded(layers[0], node, constants)
      elif node.kind == "MaxPool":
        if node.attributes["kernel_shape"] != [3, 3] or _stride(node) != 2:
          raise refuse("its max-pool is not 3x3 with stride 2")
        pool = _pads(node)
      elif node.kind == "Relu":
        relu = True
      elif node.kind not in PASSED:
        raise refuse(f"there is a {node.kind} in a branch")
      value, behind = node.inputs[0], node.kind
    if norm is not None or [layer.relu for layer in layers[:-1]] != [True] * (len(layers) - 1):
      raise refuse(f"before {value!r}, not every convolution has its norm and ReLU behind it")
    return layers, pool, value

  additions = [node for node in nodes if node.kind in ("Add", "Sum") and len(node.inputs) == 2
               and not any(name in constants for name in node.inputs)]
  if not additions:
    raise refuse("there is no residual addition")
  # The stem ends where the first block begins: at the value that its two branches share.
  origin = _shared(makers, additions[0].inputs)
  stem, pool, _ = branch(origin, set())
  if len(stem) != 1 or not stem[0].relu:
    raise refuse(f"its stem has {len(stem)} convolutions, or no ReLU")
  layers, stage, block = {"stem_conv": stem[0]}, 0, 0
  pools = [] if pool is None else [(3, pool)]
  for node in additions:
    sides = sorted((branch(name, {origin}) for name in node.inputs), key=lambda side: len(side[0]))
    (short, _, start), (main, _, also) = sides
    if start != origin or also != origin or len(short) > 1 or len(main) not in (2, 3) or any(
        side[-1].relu for side in (short, main) if side):
      raise refuse(f"the block before {node.outputs[0]!r} has branches of {len(short)} and "
                   f"{len(main)} convolutions")
    strided = max(layer.stride for layer in main) > 1
    stage, block = (stage + 1, 1) if strided or (short and block != 0) or not stage \
        else (stage, block + 1)
    path = f"stage{stage}_block{block}"
    if short:
      layers[f"{path}/projection_conv"] = short[0]
    layers |= {f"{path}/conv{i}": layer for i, layer in enumerate(main, 1)}
    origin = next((n.outputs[0] for n in nodes if n.kind == "Relu"
                   and n.inputs[0] == node.outputs[0]), None)
    if origin is None:
      raise refuse(f"there is no ReLU behind {node.outputs[0]!r}")
  return layers, _options(layers, pools, refuse)


def _shared(makers: Mapping[str, Node], values: list[str]) -> str:
  """The last value that both of two come from."""
  def ancestors(value):
    found = [value]
    while value in makers and makers[value].inputs:
      value = makers[value].inputs[0]
      found.append(value)
    return found
  second = set(ancestors(values[1]))
  return next((value for value in ancestors(values[0]) if value in second), values[0])


def _norm(node: Node, constants: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """A BatchNormalization; where eps differs from ours, the variance takes up the difference."""
  scale, bias, mean, var = (constants[name] for name in node.inputs[1:5])
  eps = node.attributes.get("epsilon", 1e-5)
  same = abs(eps - EPS) < 1e-9
  return {"scale": scale, "bias": bias, "mean": mean, "var": var if same else var + (eps - EPS)}


def _layer(node: Node, constants: Mapping[str, np.ndarray], norm: dict | None, relu: bool, refuse
           ) -> Layer:
  kernel = constants[node.inputs[1]]
  if node.attributes.get("group", 1) != 1 or max(node.attributes.get("dilations", [1])) != 1:
    raise refuse("it has grouped or dilated convolutions")
  bias = constants[node.inputs[2]] if len(node.inputs) > 2 else None
  channels = len(kernel)
  if norm is None:  # folded: a norm that only adds
    zeros = np.zeros(channels, np.float32)
    norm = {"scale": zeros + 1, "bias": zeros if bias is None else bias, "mean": zeros,
            "var": zeros + np.float32(1 - EPS)}
  elif bias is not None:
    norm = norm | {"mean": norm["mean"] - bias}
  return Layer(kernel, norm, _stride(node), _pads(node), relu)


def _stride(node: Node) -> int:
  """The stride of both axes; 0 where they differ, which no layer of ours has."""
  strides = set(node.attributes.get("strides", [1]))
  return strides.pop() if len(strides) == 1 else 0


def _pads(node: Node) -> tuple[int, int] | str:
  auto = node.attributes.get("auto_pad", "NOTSET")
  if auto not in ("NOTSET", "VALID"):
    return auto
  top, left, bottom, right = node.attributes.get("pads", [0, 0, 0, 0])
  return (top, bottom) if (top, bottom) == (left, right) else f"{top, left, bottom, right}"


def _padded(layer: Layer, node: Node, constants: Mapping[str, np.ndarray]) -> Layer:
  """A convolution with the Pad in front of it: begins of all axes, then ends; N, C, H, W."""
  sides = node.attributes.get("pads") or constants[node.inputs[1]].tolist()
  before, after = layer.pads if isinstance(layer.pads, tuple) else (0, 0)
  return layer._replace(pads=(before + sides[2], after + sides[6]))


def _options(layers: Mapping[str, Layer], pools: list, refuse) -> dict[str, Any]:
  """Padding, place of the stride and stem, as the graph has them."""
  strided = [(layer.kernel.shape[-1], layer.pads) for layer in layers.values()
             if layer.stride > 1 and layer.kernel.shape[-1] > 1]
  stem = layers["stem_conv"]
  wide = stem.kernel.shape[-1] == 3 and stem.stride == 1 and stem.pads == (2, 2)
  for layer in layers.values():
    side = layer.kernel.shape[-1] // 2
    if layer.stride == 1 and layer.pads not in ((side, side), "SAME_UPPER") and not (
        wide and layer is stem):
      raise refuse(f"a {2 * side + 1}x{2 * side + 1} convolution is padded by {layer.pads}")

  def rule(windows, otherwise):
    rules = {"symmetric": lambda k: ((k // 2, k // 2),),
             # Of even images, as all are whose side is a multiple of 32.
             "same": lambda k: (((k - 2) // 2, (k - 1) // 2), "SAME_UPPER")}
    fits = [name for name, allowed in rules.items()
            if all(pads in allowed(kernel) for kernel, pads in windows)]
    if not fits:
      raise refuse(f"its strided convolutions or max-pool are padded by {windows}")
    return otherwise if len(fits) > 1 else fits[0]

  pool = rule(pools, "symmetric")
  kinds = {("symmetric", "symmetric"): "torch", ("same", "same"): "same",
           ("symmetric", "same"): "simclr"}
  convolution = rule(strided, pool)
  if (convolution, pool) not in kinds:
    raise refuse(f"its convolutions are padded {convolution}, its max-pool {pool}")
  options: dict[str, Any] = {"padding": kinds[convolution, pool]}
  first = [layer for name, layer in layers.items() if name.endswith("_block1/conv1")]
  bottleneck = "stage1_block1/conv3" in layers
  if bottleneck and any(layer.stride > 1 for layer in first):
    options["block"] = "bottleneck_v1"
  strided_conv = "conv2" if bottleneck and "block" not in options else "conv1"
  for name, layer in layers.items():
    halves = re.fullmatch(rf"stage[^1]_block1/({strided_conv}|projection_conv)", name)
    if layer.stride != (2 if halves else 1) and name != "stem_conv":
      raise refuse(f"{name} has a stride of {layer.stride}")
  known = {(7, 2, True): "imagenet", (3, 1, False): "small", (3, 2, False): "strided"}
  shape = (stem.kernel.shape[-1], stem.stride, bool(pools))
  if shape not in known:
    raise refuse(f"its stem is {shape[0]}x{shape[0]} with stride {shape[1]}"
                 f"{' and a max-pool' if pools else ''}")
  return options | {"stem": "small_wide" if wide else known[shape]}
