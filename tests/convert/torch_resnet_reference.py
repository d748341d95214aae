"""ResNets in PyTorch, as the authors of the published checkpoints have them: names and forward.

Written from the papers; the names of modules are those that a state_dict shows. Random weights and
random statistics, so that no layer can be left out unnoticed.
"""

import torch
from torch import nn
from torch.nn import functional as F

THIN = {"basic": (2, 2, 2, 2), "bottleneck": (3, 4, 6, 3)}  # the blocks of ResNet-18 and -50


def same(x, kernel, stride, value=0.0):
  """TensorFlow's SAME padding."""
  sides = []
  for n in (x.shape[3], x.shape[2]):
    total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
    sides += [total // 2, total - total // 2]
  return F.pad(x, sides, value=value)


class SameConv(nn.Conv2d):
  """A convolution with TensorFlow's padding."""

  def forward(self, x):
    return F.conv2d(same(x, self.kernel_size[0], self.stride[0]), self.weight, None, self.stride)


class SamePool(nn.Module):
  """A 3x3 max-pool of stride 2 with TensorFlow's padding."""

  def forward(self, x):
    return F.max_pool2d(same(x, 3, 2, -torch.inf), 3, 2)


def conv(inputs, outputs, kernel, stride=1, kind=nn.Conv2d):
  padding = kernel // 2 if kind is nn.Conv2d else 0
  return kind(inputs, outputs, kernel, stride, padding, bias=False)


class Block(nn.Module):
  """Two 3x3, or a bottleneck; `shortcut` names the projection, `first` says when it is made."""

  def __init__(self, inputs, width, stride, bottleneck, *, shortcut="downsample", first=False,
               project=None, kind=nn.Conv2d):
    super().__init__()
    outputs = 4 * width if bottleneck else width
    shapes = ([(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
              if bottleneck else [(inputs, width, 3, stride), (width, width, 3, 1)])
    project = stride != 1 or inputs != outputs if project is None else project
    self.shortcut_name, self.count = shortcut, len(shapes)

    def add_shortcut():
      if project or shortcut == "shortcut":  # SupContrast has an empty Sequential otherwise
        setattr(self, shortcut, nn.Sequential(*(
            [conv(inputs, outputs, 1, stride, kind), nn.BatchNorm2d(outputs)] if project else [])))
      else:
        setattr(self, shortcut, None)

    if first:
      add_shortcut()
    for i, shape in enumerate(shapes, 1):
      setattr(self, f"conv{i}", conv(*shape, kind))
      setattr(self, f"bn{i}", nn.BatchNorm2d(shape[1]))
    if not first:
      add_shortcut()

  def forward(self, x):
    y = x
    for i in range(1, self.count + 1):
      y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
      y = F.relu(y) if i < self.count else y
    shortcut = getattr(self, self.shortcut_name)
    return F.relu(y + (x if shortcut is None else shortcut(x)))


class ResNet(nn.Module):
  """torchvision's attributes: conv1, bn1, relu, maxpool, layer1 to layer4, avgpool, fc."""

  def __init__(self, kind="bottleneck", width=8, stem=(7, 2, 3), pool=True, padding="torch",
               seed=0, project_first=None, blocks=None, **options):
    super().__init__()
    convolution = SameConv if padding == "same" else nn.Conv2d
    self.conv1 = nn.Conv2d(3, width, *stem, bias=False) if padding != "same" else SameConv(
        3, width, stem[0], stem[1], 0, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.relu = nn.ReLU()
    self.maxpool = nn.Identity() if not pool else (
        nn.MaxPool2d(3, 2, 1) if padding == "torch" else SamePool())
    inputs = width
    self.stages = [f"layer{s}" for s, _ in enumerate(blocks or THIN[kind], 1)]
    for s, count in enumerate(blocks or THIN[kind]):
      layer = []
      for b in range(count):
        layer.append(Block(inputs, width << s, 2 if s and not b else 1, kind == "bottleneck",
                           kind=convolution, project=None if b else project_first, **options))
        inputs = (width << s) * (4 if kind == "bottleneck" else 1)
      setattr(self, f"layer{s + 1}", nn.Sequential(*layer))
    self.avgpool = nn.AdaptiveAvgPool2d(1)
    self.fc = nn.Linear(inputs, 5)
    scramble(self, seed)

  def forward(self, x):
    x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
    stages = {}
    for name in self.stages:
      x = stages[name.replace("layer", "stage")] = getattr(self, name)(x)
    return stages | {"features": x.mean((2, 3))}


def scramble(module, seed):
  """Random weights, of a size that keeps activations near one, and random statistics."""
  random = torch.Generator().manual_seed(seed)
  for part in module.modules():
    if isinstance(part, nn.BatchNorm2d):
      for name, low, high in (("weight", 0.5, 1), ("bias", -0.3, 0.3), ("running_mean", -0.3, 0.3),
                              ("running_var", 0.5, 1.5)):
        getattr(part, name).data.uniform_(low, high, generator=random)
    elif isinstance(part, nn.Conv2d):
      fan_in = part.weight[0].numel()
      part.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=random)
  module.eval()


class Selective(nn.Module):
  """The selective kernel of SimCLRv2-Pytorch, by its names."""

  def __init__(self, inputs, width, stride):
    super().__init__()
    hidden = max(width // 16, 32)
    self.main_conv = nn.Sequential(conv(inputs, 2 * width, 3, stride), normed(2 * width))
    self.mixing_conv = nn.Sequential(conv(width, hidden, 1), normed(hidden),
                                     conv(hidden, 2 * width, 1))

  def forward(self, x):
    a, b = self.main_conv(x).chunk(2, 1)
    weights = self.mixing_conv((a + b).mean((2, 3), keepdim=True))
    share = torch.sigmoid(torch.sub(*weights.chunk(2, 1)))  # a softmax over two
    return a * share + b * (1 - share)


def normed(channels, relu=True):
  return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU() if relu else nn.Identity())


class InnerMean(nn.Module):
  """ResNet-D's shortcut as TensorFlow computes it: a mean of what lies within the image.

  The converted network divides by four at the border of the first stage as well.
  """

  def __init__(self, stride):
    super().__init__()
    self.stride = stride

  def forward(self, x):
    x = F.pad(x, (0, 1, 0, 1))
    total = F.avg_pool2d(x, 2, self.stride, divisor_override=1)
    if self.stride > 1:
      return total / 4
    ones = F.avg_pool2d(F.pad(torch.ones_like(x[..., 1:, 1:]), (0, 1, 0, 1)), 2, 1,
                        divisor_override=1)
    return total / ones


class SimclrV2Block(nn.Module):
  """A bottleneck of SimCLRv2-Pytorch."""

  def __init__(self, inputs, width, stride, project, selective):
    super().__init__()
    self.projection = nn.Identity()
    if project:
      self.projection = nn.Module()
      self.projection.shortcut = conv(inputs, 4 * width, 1, stride) if not selective else (
          nn.Sequential(nn.Identity(), InnerMean(stride), conv(inputs, 4 * width, 1)))
      self.projection.bn = normed(4 * width, relu=False)
      self.projection.forward = lambda x: self.projection.bn(self.projection.shortcut(x))
    middle = [Selective(width, width, stride)] if selective else [
        conv(width, width, 3, stride), normed(width)]
    self.net = nn.Sequential(conv(inputs, width, 1), normed(width), *middle,
                             conv(width, 4 * width, 1), normed(4 * width, relu=False))

  def forward(self, x):
    return F.relu(self.projection(x) + self.net(x))


class SimclrV2(nn.Module):
  """The ResNet-50 of SimCLRv2-Pytorch: `net`, whose first child is the stem."""

  def __init__(self, width=8, selective=False, seed=0):
    super().__init__()
    stem = [conv(3, width, 7, 2), normed(width)]
    if selective:
      stem = [conv(3, width // 2, 3, 2), normed(width // 2), conv(width // 2, width // 2, 3),
              normed(width // 2), conv(width // 2, width, 3), normed(width)]
    groups, inputs = [nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1))], width
    for s, count in enumerate(THIN["bottleneck"]):
      group = nn.Module()
      group.blocks = nn.ModuleList()
      for b in range(count):
        group.blocks.append(SimclrV2Block(inputs, width << s, 2 if s and not b else 1, not b,
                                          selective))
        inputs = 4 * width << s
      groups.append(group)
    self.net = nn.Sequential(*groups)
    self.fc = nn.Linear(inputs, 5)
    scramble(self, seed)

  def forward(self, x):
    x = self.net[0](x)
    stages = {}
    for s in (1, 2, 3, 4):
      for block in self.net[s].blocks:
        x = block(x)
      stages[f"stage{s}"] = x
    return stages | {"features": x.mean((2, 3))}
