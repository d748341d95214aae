"""A ResNet as an ONNX graph: normalised images [N,3,H,W] -> "features" [N,F]."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssl_jax.convert.encoder import Encoder, arrays_of
from ssl_jax.convert.onnx_graph import EPS, KEY
from ssl_jax.convert.structure import norm_of, options_of, shapes
from ssl_jax.errors import UserError

OPSET, IR = 17, 8  # ONNX 1.12, of 2022: old enough for what is in use


def write_onnx(encoder: Encoder, path: str | os.PathLike) -> None:
  """Writes the frozen encoder, BatchNorm apart, its description among the metadata.

  Batch and image sides are free. TensorFlow's padding is SAME_UPPER, which is the same for all.

  Raises:
    UserError: The network has selective kernels, or the package `onnx` is missing.
  """
  try:
    import onnx
    from onnx import helper, numpy_helper
  except ImportError as error:
    raise UserError("--to onnx needs the package onnx; pip install 'ssl_jax[export]'") from error
  options = options_of(encoder.meta["model"])
  if options["block"] == "selective":
    raise UserError(f"--to onnx: {encoder.meta['model']['name']} has selective kernels, which are "
                    "not written; export safetensors or npz")
  arrays = arrays_of(encoder.variables)
  nodes, constants = [], []

  def constant(name: str, value: np.ndarray) -> str:
    constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name

  def node(kind: str, inputs: list[str], output: str, **attributes) -> str:
    nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
    return output

  def layer(x: str, conv: str, stride: int) -> str:
    kernel = arrays[f"{conv}/kernel"]
    norm, side = norm_of(conv), kernel.shape[0]
    y = node("Conv", [x, constant(f"{conv}/kernel", kernel.transpose(3, 2, 0, 1))], conv,
             kernel_shape=[side, side], strides=[stride, stride],
             **_padding(options["padding"], side, extra=margin if conv == "stem_conv" else 0))
    values = [constant(f"{norm}/{kind}", arrays[f"{norm}/{kind}"])
              for kind in ("scale", "bias", "mean", "var")]
    return node("BatchNormalization", [y, *values], norm, epsilon=EPS)

  margin = int(options["stem"] == "small_wide")
  stride = {"imagenet": 2, "strided": 2}.get(options["stem"], 1)
  x = node("Relu", [layer("images", "stem_conv", stride)], "stem")
  if options["stem"] == "imagenet":
    rule = "torch" if options["padding"] == "torch" else "same"
    x = node("MaxPool", [x], "stem_pool", kernel_shape=[3, 3], strides=[2, 2], **_padding(rule, 3))
  names = shapes(encoder.meta["model"])
  for s, (count, stride) in enumerate(zip(options["blocks"], options["strides"]), 1):
    for b in range(1, count + 1):
      x = _block(f"stage{s}_block{b}", x, stride if b == 1 else 1, options["block"], names, layer,
                 node)
  x = node("GlobalAveragePool", [x], "pooled")
  node("Flatten", [x], "features")
  graph = helper.make_graph(
      nodes, "encoder",
      [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT,
                                     ["batch", 3, "height", "width"])],
      [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["batch", None])],
      constants)
  model = helper.make_model(graph, producer_name="ssl_jax", ir_version=IR,
                            opset_imports=[helper.make_opsetid("", OPSET)])
  helper.set_model_props(model, {KEY: json.dumps(encoder.meta)})
  onnx.checker.check_model(model)
  onnx.save(model, os.fspath(path))


def _padding(rule: str, side: int, extra: int = 0) -> dict[str, Any]:
  if rule == "same" and side > 1:
    return {"auto_pad": "SAME_UPPER"}
  return {"pads": [side // 2 + extra] * 4}


def _block(path: str, x: str, stride: int, kind: str, names: Mapping[str, tuple], layer, node
           ) -> str:
  """The nodes of a block; the stride is where models.resnet has it."""
  count = 3 if f"{path}/conv3/kernel" in names else 2
  strided = 2 if kind == "bottleneck" else 1
  y = x
  for i in range(1, count + 1):
    y = layer(y, f"{path}/conv{i}", stride if i == strided else 1)
    y = node("Relu", [y], f"{path}/relu{i}") if i < count else y
  if f"{path}/projection_conv/kernel" in names:
    x = layer(x, f"{path}/projection_conv", stride)
  return node("Relu", [node("Add", [y, x], f"{path}/sum")], path)
