"""Encoders leave for other libraries and come back equal to the last bit."""

import json
import pickle

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
from fabricated_checkpoints import CHECKPOINTS, ResNet
from test_layouts import assert_equal_to_torch, forward, hashable

from ssl_jax import convert, export
from ssl_jax.convert import saving
from ssl_jax.errors import UserError

IMAGES = np.random.default_rng(3).standard_normal((3, 64, 64, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def encoders(folder):
  """name -> (Encoder, network): of both kinds of blocks, and with TensorFlow's padding."""
  made = {}
  for kind in ("basic", "bottleneck"):
    net = ResNet(kind)
    torch.save(net.state_dict(), folder / f"{kind}.pth")
    made[kind] = convert.load(folder / f"{kind}.pth"), net
  encoder, _ = made["basic"]
  for padding in ("same", "simclr"):
    meta = encoder.meta | {"model": encoder.meta["model"] | {"padding": padding}}
    made[padding] = encoder._replace(meta=meta), ResNet("basic", padding=padding)
  for name in ("supcon", "solo_learn_cifar"):
    torch.save(CHECKPOINTS[name]()[0], folder / f"{name}.pth")
    made[name] = convert.load(folder / f"{name}.pth"), CHECKPOINTS[name]()[1]
  return made


def blank(net):
  """The same network with other numbers everywhere."""
  for tensor in net.state_dict().values():
    tensor.fill_(0.3)
  return net


def assert_same_network(ours, net):
  """The encoder and the PyTorch network agree at every stage."""
  assert_equal_to_torch(ours, net.eval())


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_pytorch_loads_the_torchvision_export_without_trust(kind, encoders, folder):
  encoder, net = encoders[kind]
  out = folder / f"{kind}-out.pth"
  assert saving.save(encoder, "torchvision", out) == encoder.report.matched
  state = torch.load(out, weights_only=True)
  fresh = blank(ResNet(kind))
  assert fresh.load_state_dict(state, strict=False).missing_keys == ["fc.weight", "fc.bias"]
  theirs = [name for name in net.state_dict() if not name.startswith("fc.")]
  assert list(state) == theirs  # in the order of the modules as well
  assert_same_network(encoder, fresh)
  assert torch.load(out, weights_only=True, mmap=True)["conv1.weight"].equal(net.conv1.weight)


def test_timm_gets_a_folder_with_its_description(folder):
  net = ResNet("basic", width=64)
  torch.save(net.state_dict(), folder / "wide.pth")
  encoder = convert.load(folder / "wide.pth")
  saving.save(encoder, "timm", folder / "timm")
  state = safetensors.torch.load_file(folder / "timm" / "model.safetensors")
  assert all(state[name].equal(value) for name, value in net.state_dict().items()
             if not name.startswith("fc.")) and len(state) == len(net.state_dict()) - 2
  described = json.loads((folder / "timm" / "config.json").read_text())
  assert described["architecture"] == "resnet18" and described["num_features"] == 512
  assert described["pretrained_cfg"]["crop_pct"] == 0.875


def test_detectron2_gets_its_names_in_a_pickle(encoders, folder):
  encoder, net = encoders["bottleneck"]
  saving.save(encoder, "detectron2", folder / "d2.pkl")
  saved = pickle.loads((folder / "d2.pkl").read_bytes())
  assert saved["matching_heuristics"] is True and saved["__author__"] == "ssl_jax"
  model, state = saved["model"], net.state_dict()
  for theirs, ours in (("stem.conv1.weight", "conv1.weight"),
                       ("stem.conv1.norm.running_var", "bn1.running_var"),
                       ("res2.0.shortcut.weight", "layer1.0.downsample.0.weight"),
                       ("res2.0.shortcut.norm.bias", "layer1.0.downsample.1.bias"),
                       ("res5.2.conv3.norm.weight", "layer4.2.bn3.weight")):
    np.testing.assert_array_equal(model[theirs], state[ours].numpy())
  assert len(model) == 265 and not any("layer" in name for name in model)


@pytest.mark.parametrize("form", ["safetensors", "npz"])
def test_our_own_files_come_back_with_their_description(form, encoders, folder):
  for name, (encoder, _) in encoders.items():
    out = folder / f"{name}.{form}"
    saving.save(encoder, form, out)
    back = convert.load(out)
    assert back.meta == encoder.meta and saving.compare(encoder, back) > 0


@pytest.mark.parametrize("name", ["basic", "bottleneck", "same", "simclr", "supcon",
                                  "solo_learn_cifar"])
def test_onnx_runtime_computes_the_same_features(name, encoders, folder):
  encoder, _ = encoders[name]
  out = folder / f"{name}.onnx"
  saving.save(encoder, "onnx", out)
  assert convert.load(out).meta == encoder.meta
  images = IMAGES if "stem" not in encoder.meta["model"] or (
      encoder.meta["model"]["stem"] == "imagenet") else IMAGES[:, :16, :16]
  session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
  (theirs,) = session.run(["features"], {"images": images.transpose(0, 3, 1, 2)})
  ours = forward(hashable(encoder.meta["model"]))(encoder.variables, images)["features"]
  assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_onnx_that_describes_nothing_is_told_by_its_graph(encoders, folder):
  import onnx

  for name in ("same", "simclr", "supcon", "bottleneck"):
    encoder, _ = encoders[name]
    saving.save(encoder, "onnx", folder / f"{name}-bare.onnx")
    model = onnx.load(folder / f"{name}-bare.onnx")
    del model.metadata_props[:]
    onnx.save(model, folder / f"{name}-bare.onnx")
    back = convert.load(folder / f"{name}-bare.onnx")
    assert saving.compare(encoder, back) == len(saving.arrays_of(encoder.variables))
    for option in ("padding", "stem"):
      default = {"padding": "torch", "stem": "imagenet"}[option]
      assert back.meta["model"].get(option, default) == encoder.meta["model"].get(option, default)


def refused(*fragments, **arguments):
  with pytest.raises(UserError) as error:
    saving.save(**arguments)
  for fragment in fragments:
    assert fragment in str(error.value)
  assert "\n" not in str(error.value)


def test_what_a_library_cannot_compute_is_not_exported_to_it(encoders, folder):
  same, wide = encoders["same"][0], encoders["solo_learn_cifar"][0]
  for to in ("torchvision", "detectron2"):
    refused("TensorFlow's padding", "onnx", encoder=same, to=to, out=folder / "no.pth")
  refused("timm has no resnet18 with this", encoder=wide, to="timm", out=folder / "no")
  refused("did you mean 'onnx'", encoder=same, to="onnxx", out=folder / "no")
  refused("exists", encoder=same, to="npz", out=folder / "basic.pth")
  assert not list(folder.glob("*no*")) and not list(folder.glob(".*"))


def run(*flags):
  """The line that the command prints, or its error."""
  try:
    return export.run(export.parser().parse_args([str(f) for f in flags]))
  except UserError as error:
    return f"error: {error}"


def test_embeddings_stream_to_npz_and_parquet(encoders, folder):
  from pyarrow import parquet

  source = folder / "basic.pth"
  for end in ("npz", "parquet"):
    line = run("--from", source, "--to", "saved-features", "--out", folder / f"e.{end}", "--data",
               "bundled:fashion_mnist_mini", "--split", "test[:20]", "--batch_size", 8)
    assert line.endswith("20 embeddings of 64 numbers")
  with np.load(folder / "e.npz") as saved:
    features = saved["features"]
    assert features.shape == (20, 64) and saved["index"].tolist() == list(range(20))
    assert np.ptp(features, 0).min() > 0 and saved["name"][3].startswith("image 3 of")
    table = parquet.read_table(folder / "e.parquet")
    np.testing.assert_array_equal(np.stack(table["features"].to_numpy()), features)
    assert table["label"].to_pylist() == saved["label"].tolist()


def test_a_mistake_on_the_command_line_is_told_in_one_line(folder):
  source = folder / "basic.pth"
  assert "name them: --data=SPEC" in run(
      "--from", source, "--to", "saved-features", "--out", folder / "f.npz")
  assert "must end in .npz or .parquet" in run(
      "--from", source, "--to", "saved-features", "--out", folder / "f.csv", "--data",
      "bundled:fashion_mnist_mini")
  assert "the following arguments are required: --to" in run("--from", source, "--out", "x")
  assert "did you mean 'torchvision'" in run("--from", source, "--to", "torchvison", "--out", "x")
  assert "leave it out" in run("--from", source, "--to", "npz", "--out", "x", "--data", "y")
