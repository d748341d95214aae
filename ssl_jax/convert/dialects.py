"""How others call the tensors of a ResNet: `dialect(ours) -> theirs`, of modules and of kinds.

Each is written once, in the direction from our names to theirs, which exports need; `inverse`
turns it round by enumeration.
"""

import functools
import re
from collections.abc import Callable

from ssl_jax.convert.structure import CONVS, MOST_BLOCKS, NORM, norm_of

Dialect = Callable[[str], str | None]  # module path -> their name of it, None if they have no such

TORCH = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean",
         "var": "running_var"}
TENSORFLOW = {"kernel": "kernel", "scale": "gamma", "bias": "beta", "mean": "moving_mean",
              "var": "moving_variance"}


def _split(path: str) -> tuple[int, int, str]:
  """(stage, block, module) of a module in a block; (0, 0, path) for the stem's."""
  match = re.fullmatch(r"stage(\d+)_block(\d+)/(.*)", path)
  return (int(match[1]), int(match[2]), match[3]) if match else (0, 0, path)


def _torch(path: str, stem: dict[str, str], layer: str, shortcut: str) -> str | None:
  """The names of torchvision's classes, with another stem, stage or shortcut."""
  stage, block, module = _split(path)
  if not stage:
    return stem.get(path)
  inner = {"projection_conv": f"{shortcut}.0", "projection_norm": f"{shortcut}.1"}.get(
      module, module.replace("norm", "bn"))
  if not re.fullmatch(rf"(conv|bn)\d|{shortcut}\.[01]", inner):
    return None
  return f"{layer.format(stage, stage + 1, stage + 3)}.{block - 1}.{inner}"


NAMED_STEM = {"stem_conv": "conv1", "stem_norm": "bn1"}
FIRST_CHILDREN = {"stem_conv": "0", "stem_norm": "1"}

# torchvision, and almost everybody.
torchvision = functools.partial(_torch, stem=NAMED_STEM, layer="layer{0}", shortcut="downsample")
# SupContrast and lightly's own small ResNets.
shortcut = functools.partial(_torch, stem=NAMED_STEM, layer="layer{0}", shortcut="shortcut")
# nn.Sequential(*resnet.children()): conv1, bn1, relu, maxpool, layer1, ...
children = functools.partial(_torch, stem=FIRST_CHILDREN, layer="{2}", shortcut="downsample")
# The same of lightly's own ResNet, which has neither relu nor maxpool among its children.
lightly_children = functools.partial(_torch, stem=FIRST_CHILDREN, layer="{1}", shortcut="shortcut")


def detectron2(path: str) -> str | None:
  """Detectron2: res2 is the first stage, norms are called after their convolutions."""
  stage, block, module = _split(path)
  if not stage:
    return {"stem_conv": "stem.conv1", "stem_norm": "stem.conv1.norm"}.get(path)
  inner = {"projection_conv": "shortcut", "projection_norm": "shortcut.norm"}.get(
      module, re.sub(r"norm(\d)", r"conv\1.norm", module))
  return None if "/" in inner else f"res{stage + 1}.{block - 1}.{inner}"


def _separius(path: str, stem: dict[str, str], inner: dict[str, str]) -> str | None:
  stage, block, module = _split(path)
  if not stage:
    return stem.get(path)
  inner = inner | {"conv1": "net.0", "norm1": "net.1.0", "projection_norm": "projection.bn.0"}
  return f"net.{stage}.blocks.{block - 1}.{inner[module]}" if module in inner else None


# SimCLRv2-Pytorch: numbered children, where a norm and its ReLU are one; without and with selective
# kernels, which are the third child of a block and take the place of a convolution and its norm.
separius = functools.partial(
    _separius, stem={"stem_conv": "net.0.0", "stem_norm": "net.0.1.0"},
    inner={"conv2": "net.2", "norm2": "net.3.0", "conv3": "net.4", "norm3": "net.5.0",
           "projection_conv": "projection.shortcut"})
separius_selective = functools.partial(
    _separius,
    stem={f"stem_conv{i}": f"net.0.{2 * i - 2}" for i in (1, 2, 3)}
    | {f"stem_norm{i}": f"net.0.{2 * i - 1}.0" for i in (1, 2, 3)},
    inner={"spatial2/conv": "net.2.main_conv.0", "spatial2/norm": "net.2.main_conv.1.0",
           "spatial2/hidden_conv": "net.2.mixing_conv.0",
           "spatial2/hidden_norm": "net.2.mixing_conv.1.0",
           "spatial2/choice_conv": "net.2.mixing_conv.2", "conv3": "net.3", "norm3": "net.4.0",
           "projection_conv": "projection.shortcut.2"})  # behind a padding and a mean


def haiku(path: str) -> str | None:
  """BYOL's networks in Haiku, from the module's own name on."""
  stage, block, module = _split(path)
  if not stage:
    return {"stem_conv": "initial_conv", "stem_norm": "initial_batchnorm"}.get(path)
  inner = {"projection_conv": "shortcut_conv", "projection_norm": "shortcut_batchnorm"}.get(module)
  if inner is None and (match := re.fullmatch(r"(conv|norm)(\d)", module)):
    inner = f"{'conv' if match[1] == 'conv' else 'batchnorm'}_{int(match[2]) - 1}"
  return inner and f"block_group_{stage - 1}/~/block_{block - 1}/~/{inner}"


@functools.cache
def every_module() -> tuple[str, ...]:
  """The path of every module that a ResNet may have."""
  stem = [f"stem_{kind}{i}" for kind in ("conv", "norm") for i in ("", 1, 2, 3)]
  inner = {conv for convs in CONVS.values() for conv in convs} | {"projection_conv"}
  inner |= {norm_of(conv) for conv in inner} - {None}
  return (*stem, *(f"stage{s}_block{b}/{module}" for s in range(1, 5)
                   for b in range(1, MOST_BLOCKS + 1) for module in sorted(inner)))


@functools.cache
def inverse(dialect: Dialect) -> dict[str, str]:
  """Their names of tensors in PyTorch's kinds -> ours."""
  found = {}
  for path in every_module():
    if theirs := dialect(path):
      for kind in ("kernel",) if path.rstrip("123").endswith("conv") else NORM:
        found[f"{theirs}.{TORCH[kind]}"] = f"{path}/{kind}"
  return found


def haiku_module(theirs: str) -> str | None:
  """Our path of a module of Haiku's, whatever the network as a whole is called."""
  tail = re.search(r"(initial_\w+|block_group_\d+/~/block_\d+/~/\w+)$", theirs)
  return tail and _haiku_modules().get(tail[1])


@functools.cache
def _haiku_modules() -> dict[str, str]:
  return {theirs: path for path in every_module() if (theirs := haiku(path))}


def simclr_names(kernels: dict[str, tuple[int, ...]]) -> dict[str, str]:
  """Our names of tensors -> the names of SimCLR's TensorFlow variables.

  They are numbered in the order of their making: the stem, then for every block its projection, if
  it has one, and its convolutions; a norm behind each, but for the last in a selective kernel. How
  the numbers fall into blocks is told by the sizes of the kernels.

  Args:
    kernels: The shape of every variable base_model/conv2d[_N]/kernel, by name.
  """
  def number(name):
    tail = name.split("/")[-2].removeprefix("conv2d").removeprefix("_")
    return int(tail or 0)

  names = sorted(kernels, key=number)
  sides = [kernels[name][0] for name in names]
  deep = sides[:4] == [3, 3, 3, 1]
  paths = [f"stem_conv{i}" for i in (1, 2, 3)] if deep else ["stem_conv"]
  rest = sides[len(paths):]
  kind = "selective" if deep else "bottleneck" if rest[-1:] == [1] else "basic"
  pattern = [3 if conv.endswith(("/conv", "conv2")) or kind == "basic" else 1
             for conv in CONVS[kind]]
  stage = block = at = 0
  while at < len(rest):
    projects = rest[at:at + 1 + len(pattern)] == [1, *pattern]
    stage, block = (stage + 1, 1) if projects else (stage, block + 1)
    if projects:
      paths.append(f"stage{stage}_block{block}/projection_conv")
    paths += [f"stage{stage}_block{block}/{conv}" for conv in CONVS[kind]]
    at += len(pattern) + projects
  theirs, norms = {}, 0
  for path, name in zip(paths, names):
    theirs[f"{path}/kernel"] = name
    if norm := norm_of(path):
      module = name.rsplit("/", 2)[0] + "/batch_normalization" + (f"_{norms}" if norms else "")
      theirs |= {f"{norm}/{kind}": f"{module}/{TENSORFLOW[kind]}" for kind in NORM}
      norms += 1
  return theirs
