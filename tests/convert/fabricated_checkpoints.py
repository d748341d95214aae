"""Checkpoints as their authors save them: true names, containers, decoys; random weights.

`CHECKPOINTS[name]()` is (what is saved, the PyTorch network whose features it must give). Sources:
the repositories' own training code, as read for each row.
"""

import argparse
import copy
import datetime
import itertools
from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torch_resnet_reference import ResNet, SimclrV2

CIFAR = dict(stem=(3, 1, 1), pool=False)


def prefixed(prefix, state):
  return OrderedDict((prefix + name, value) for name, value in state.items())


def backbone(net):
  """The state without the classifier."""
  return OrderedDict((k, v) for k, v in net.state_dict().items() if not k.startswith("fc."))


def other(net):
  """A network of the same names and other weights: what a momentum encoder is."""
  twin = copy.deepcopy(net)
  for tensor in twin.state_dict().values():
    tensor += 1
  return twin


def mlp(*sizes):
  layers = []
  for a, b in itertools.pairwise(sizes):
    layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
  return nn.Sequential(*layers[:-2]).state_dict()


def optimizer(net):
  made = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
  for p in net.parameters():
    made.state[p]["momentum_buffer"] = torch.ones_like(p)
  return made.state_dict()


def torchvision():
  net = ResNet("basic")
  return net.state_dict(), net


def training_reference():
  """torchvision's references/classification: DataParallel, in "model"."""
  net = ResNet()
  return {"model": prefixed("module.", net.state_dict()), "optimizer": optimizer(net), "epoch": 3,
          "args": argparse.Namespace(lr=0.1)}, net


def moco_v1(kind="bottleneck", released=False):
  net = ResNet(kind)
  state = prefixed("module.encoder_q.", net.state_dict())
  if not released:
    state |= prefixed("module.encoder_k.", other(net).state_dict())
    state |= {"module.queue": torch.randn(5, 16), "module.queue_ptr": torch.zeros(1).long()}
  return {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": optimizer(net)}, net


def moco_v2():
  saved, net = moco_v1()
  state = saved["state_dict"]
  for encoder in ("q", "k"):
    for name in ("weight", "bias"):
      last = state.pop(f"module.encoder_{encoder}.fc.{name}")
      state[f"module.encoder_{encoder}.fc.0.{name}"] = last
      state[f"module.encoder_{encoder}.fc.2.{name}"] = last
  return saved, net


def pcl():
  saved, net = moco_v2()
  return saved | {"best_acc": torch.tensor(61.5)}, net


def clsa():
  saved, net = moco_v2()
  return saved | {"best_acc": np.float64(76.2)}, net


def dilo():
  return moco_v1("basic", released=True)


def moco_v3():
  net = ResNet()
  state = prefixed("module.base_encoder.", backbone(net))
  state |= prefixed("module.base_encoder.fc.", mlp(256, 16, 8))
  state |= prefixed("module.momentum_encoder.", backbone(other(net)))
  state |= prefixed("module.predictor.", mlp(8, 16, 8))
  return {"epoch": 1000, "arch": "resnet50", "state_dict": state, "scaler": {"scale": 65536.0}}, net


def pycontrast(heads=("head.0", "head.2")):
  net = ResNet()
  state = prefixed("module.encoder.", backbone(net))
  for head in heads:
    state |= prefixed(f"module.{head}.", nn.Linear(4, 4).state_dict())
  return {"opt": argparse.Namespace(jigsaw=True), "model": state, "epoch": 200,
          "contrast": {"memory_1": torch.randn(8, 4)}, "optimizer": optimizer(net),
          "model_ema": prefixed("module.encoder.", backbone(other(net)))}, net


def insdis():
  return pycontrast(("head.0",))


def pirl():
  return pycontrast(("head.0", "head_jig.fc1.0", "head_jig.fc2"))


def swav(released=True):
  net = ResNet()
  state = prefixed("module.", backbone(net))
  state |= prefixed("module.projection_head.", mlp(256, 16, 8))
  state["module.prototypes.weight"] = torch.randn(30, 8)
  return (state if released else {"epoch": 1, "state_dict": state, "amp": {"loss_scale": 2}}), net


def deepcluster_v2():
  state, net = swav()
  weight = state.pop("module.prototypes.weight")
  return state | {f"module.prototypes.prototypes{i}.weight": weight for i in range(3)}, net


def simclr_v1():
  net = ResNet(first=True)
  return {"state_dict": net.state_dict()}, net


def simclr_v2():
  net = SimclrV2()
  return {"resnet": net.state_dict(), "head": mlp(256, 16, 8)}, net


def simclr_v2_sk():
  net = SimclrV2(selective=True)
  return {"resnet": net.state_dict(), "head": mlp(256, 16, 8)}, net


def vissl():
  net = ResNet()
  model = {"trunk": prefixed("_feature_blocks.", backbone(net)),
           "heads": prefixed("0.clf.", mlp(256, 16, 8))}
  return {"phase_idx": 799, "loss": {"memory": torch.randn(4, 4)},
          "classy_state_dict": {"base_model": {"model": model, "meta": {}}, "optimizer": {}},
          "type": "consolidated"}, net


def supcon(blocks=None):
  net = ResNet("basic", shortcut="shortcut", blocks=blocks, **CIFAR)
  state = prefixed("encoder.", backbone(net))
  state |= prefixed("head.", mlp(net.fc.in_features, 16, 8))
  return {"opt": argparse.Namespace(n_cls=10), "model": state, "optimizer": {}, "epoch": 9}, net


def supcon_parallel():
  saved, net = supcon()
  saved["model"] = OrderedDict(
      (k.replace("encoder.", "encoder.module."), v) for k, v in saved["model"].items())
  return saved, net


def as_children(net):
  """nn.Sequential(*net.children()) but the classifier, as Lightning modules often keep it."""
  return nn.Sequential(*list(net.children())[:-1])


def broad_study():
  net = ResNet("basic")
  encoder = as_children(net).state_dict()
  state = OrderedDict()
  for name in ("feature.", "feature_extractor.", "moco.encoder_q."):
    state |= prefixed(name, encoder)
  state |= prefixed("feature_k.", as_children(other(net)).state_dict())
  state |= {"moco.queue": torch.randn(4, 4)} | prefixed("classifier.", mlp(64, 8))
  return {"state_dict": state, "epoch": 400, "global_step": 7, "pytorch-lightning_version": "1.0.2",
          "callbacks": {}, "hyper_parameters": {"lr": 0.03}}, net


def lightly():
  net = ResNet("basic")
  state = prefixed("backbone.", as_children(net).state_dict())
  state |= prefixed("projection_head.layers.", mlp(64, 16, 8))
  state |= prefixed("backbone_momentum.", as_children(other(net)).state_dict())
  state |= prefixed("projection_head_momentum.layers.", mlp(64, 16, 8))
  return state, net


def lightly_small():
  """lightly's own ResNetGenerator: no maxpool or relu among the children, `shortcut` in blocks."""
  net = ResNet("basic", shortcut="shortcut", **CIFAR)
  children = nn.Sequential(net.conv1, net.bn1, net.layer1, net.layer2, net.layer3, net.layer4)
  state = prefixed("backbone.", children.state_dict())
  return {"state_dict": state | prefixed("projection_head.layers.", mlp(64, 16, 8))}, net


def lightly_named():
  net = ResNet()
  state = prefixed("backbone.", backbone(net)) | prefixed("projection_head.layers.", mlp(256, 8))
  return {"state_dict": state}, net


def solo_learn(net=None):
  net = net or ResNet("basic")
  width = net.fc.in_features
  state = prefixed("backbone.", backbone(net)) | prefixed("classifier.", mlp(width, 8))
  state |= prefixed("projector.", mlp(width, 16, 8)) | prefixed("predictor.", mlp(8, 16, 8))
  state |= prefixed("momentum_backbone.", backbone(other(net)))
  state |= prefixed("momentum_projector.", mlp(width, 16, 8)) | {"queue": torch.randn(2, 8, 4)}
  return {"state_dict": state, "callbacks": {"ModelCheckpoint{'monitor': None}": {}},
          "loops": {"fit_loop": {"state_dict": {}}}, "optimizer_states": [optimizer(net)]}, net


def solo_learn_cifar():
  return solo_learn(ResNet("basic", stem=(3, 1, 2), pool=False))


def dino():
  net = ResNet()
  state = prefixed("backbone.", backbone(net)) | prefixed("head.mlp.", mlp(256, 16, 8))
  student = prefixed("module.", prefixed("backbone.", backbone(other(net))))
  return {"teacher": state, "student": student, "dino_loss": {"center": torch.zeros(1, 4)},
          "args": argparse.Namespace(), "when": datetime.timedelta(1)}, net


def dino_backbone():
  net = ResNet()
  return backbone(net), net


CHECKPOINTS = {f.__name__: f for f in (
    torchvision, training_reference, moco_v1, moco_v2, pcl, clsa, dilo, moco_v3, insdis, pirl,
    pycontrast, swav, deepcluster_v2, simclr_v1, simclr_v2, simclr_v2_sk, vissl, supcon,
    supcon_parallel, broad_study, lightly, lightly_small, lightly_named, solo_learn,
    solo_learn_cifar, dino, dino_backbone)}
