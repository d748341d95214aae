"""Every published layout is recognised, converted to the last tensor, and equal to PyTorch."""

import functools

import jax
import numpy as np
import pytest
import tiny
import torch
from fabricated_checkpoints import CHECKPOINTS, ResNet

from ssl_jax import build, convert
from ssl_jax.convert.structure import shapes
from ssl_jax.errors import UserError

LAYOUTS = {
    **dict.fromkeys(("torchvision", "training_reference", "dino_backbone"), "torchvision"),
    **dict.fromkeys(("moco_v1", "moco_v2", "pcl", "clsa", "dilo"), "moco"), "moco_v3": "moco_v3",
    **dict.fromkeys(("insdis", "pirl", "pycontrast"), "pycontrast"),
    **dict.fromkeys(("swav", "deepcluster_v2"), "swav"), "simclr_v1": "simclr_v1",
    **dict.fromkeys(("simclr_v2", "simclr_v2_sk"), "simclr_v2"), "vissl": "vissl",
    **dict.fromkeys(("supcon", "supcon_parallel"), "supcon"), "broad_study": "broad_study",
    **dict.fromkeys(("lightly", "lightly_small", "lightly_named"), "lightly"),
    **dict.fromkeys(("solo_learn", "solo_learn_cifar"), "solo_learn"), "dino": "dino"}


@functools.cache
def forward(model: tuple):
  """The compiled network of a model group: images f32[B,H,W,3] -> every stage and the features."""
  module = build.backbone({k: list(v) if isinstance(v, tuple) else v for k, v in model})
  return jax.jit(lambda variables, images: module.apply(variables, images, train=False),
                 compiler_options=tiny.QUICK)


def hashable(model) -> tuple:
  return tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in model.items()))


def assert_equal_to_torch(encoder, net, size=64):
  """Every stage and the pooled features, to 1e-4 of their size."""
  images = np.random.default_rng(0).standard_normal((2, size, size, 3)).astype(np.float32)
  with torch.no_grad():
    wanted = net(torch.from_numpy(images.transpose(0, 3, 1, 2)))
  got = forward(hashable(encoder.meta["model"]))(encoder.variables, images)
  for name, theirs in wanted.items():
    theirs = theirs.numpy().transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs.numpy()
    assert got[name].shape == theirs.shape
    assert np.abs(got[name] - theirs).max() < 1e-4 * np.abs(theirs).max(), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("foreign")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_published_layout_gives_the_features_of_pytorch(name, folder):
  saved, net = CHECKPOINTS[name]()
  path = folder / f"{name}.pth"
  # Both of PyTorch's formats, in turn.
  torch.save(saved, path, _use_new_zipfile_serialization=len(name) % 2 == 0)
  encoder = convert.load(path)
  assert encoder.meta["method"] == LAYOUTS[name]
  assert encoder.report.matched == len(shapes(encoder.meta["model"]))
  assert "untrained" not in encoder.report.sanity
  assert_equal_to_torch(encoder, net, encoder.meta["preprocessing"]["size"] // 4 + 8)


def test_preprocessing_comes_with_the_layout(folder):
  def of(name):
    saved, _ = CHECKPOINTS[name]()
    torch.save(saved, folder / "p.pth")
    return convert.load(folder / "p.pth").meta["preprocessing"]
  raw, swav, moco, supcon = map(of, ("simclr_v1", "swav", "moco_v2", "supcon"))
  assert raw["mean"] == [0, 0, 0] and raw["std"] == [1, 1, 1]
  assert swav["std"] == [0.228, 0.224, 0.225]
  assert moco == {"preset": "center", "size": 224, "proportion": 0.875, "canvas": 256,
                  "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
  assert (supcon["size"], supcon["proportion"], supcon["canvas"]) == (32, 1.0, 32)


def changed(folder, change, kind="basic"):
  """What `load` says of a torchvision file after `change(state)`."""
  net = ResNet(kind)
  state = net.state_dict()
  change(state)
  path = folder / "changed.pth"
  torch.save(state, path)
  with pytest.raises(UserError) as error:
    convert.load(path)
  assert "\n" not in str(error.value)
  return str(error.value)


def test_a_renamed_tensor_is_missing_and_left_over(folder):
  def rename(state):
    state["layer2.0.convolution2.weight"] = state.pop("layer2.0.conv2.weight")
  line = changed(folder, rename)
  assert "99 of 100 tensors match" in line
  assert "missing 1 (stage2_block1/conv2/kernel)" in line
  assert "left over 1 (layer2.0.convolution2.weight)" in line


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder):
  def reshape(state):
    state["layer3.1.conv1.weight"] = state["layer3.1.conv1.weight"][:, :-1]
  line = changed(folder, reshape)
  assert "99 of 100" in line
  assert "layer3.1.conv1.weight is (3, 3, 31, 32), not (3, 3, 32, 32)" in line


def test_an_unknown_tensor_is_not_ignored(folder):
  line = changed(folder, lambda state: state.update({"se_gate.weight": torch.ones(3)}))
  assert "100 of 100 tensors match" in line and "left over 1 (se_gate.weight)" in line


def test_a_grouped_network_is_refused(folder):
  def group(state):
    for name in [n for n in state if ".conv2.weight" in n]:
      state[name] = state[name][:, :4]
  assert "of another shape" in changed(folder, group, "bottleneck")


def test_a_file_of_no_resnet_is_told_by_its_keys(folder):
  torch.save({"blocks.0.attn.qkv.weight": torch.ones(2)}, folder / "vit.pth")
  with pytest.raises(UserError, match=r"no tensor of a ResNet .*blocks.0.attn.qkv"):
    convert.load(folder / "vit.pth")


def test_an_untrained_encoder_is_said_to_look_so(folder):
  net = ResNet("basic")
  for module in net.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.reset_parameters()
  torch.save(net.state_dict(), folder / "blank.pth")
  assert "0 of 20 norms differ" in convert.load(folder / "blank.pth").report.sanity
  assert "untrained" in convert.load(folder / "blank.pth").report.sanity


def test_what_is_left_out_is_counted(folder):
  torch.save(CHECKPOINTS["moco_v2"]()[0], folder / "m.pth")
  left_out = convert.load(folder / "m.pth").report.left_out
  assert left_out["encoder_q.fc"] == 4 and left_out["queue"] == left_out["queue_ptr"] == 1
