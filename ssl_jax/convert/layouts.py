"""Where published checkpoints keep their backbone: a table, and for each row its images.

A row says in which dictionary of the file the tensors lie, what stands before their names, how they
are called, and what else may lie there. What else lies there is refused: an unknown tensor may be a
part of the network that would be lost in silence.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.convert import dialects
from ssl_jax.convert.dialects import Dialect

Tensors = Mapping[str, np.ndarray]

# (mean, std) of pixels in [0, 1].
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SWAV = IMAGENET[0], (0.228, 0.224, 0.225)  # so in swav/src/multicropdataset.py and eval_linear.py
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # SupContrast, main_supcon.py
SOLO = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # solo/data/pretrain_dataloader.py
RAW = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # SimCLR


class Layout(NamedTuple):
  """A way of keeping an encoder in a file.

  Attributes:
    name: What it is called here.
    of: Whose checkpoints are so.
    prefixes: What may stand before the names of the backbone's tensors.
    containers: Paths of the dictionaries in which the tensors may lie; () is the file itself.
    dialect: How the rest of a name is built.
    decoys: A pattern of other tensors that may lie there, and are not part of the backbone.
    mark: A pattern that some tensor's name must match; "" for none.
    order: Looks at the names in the order of the file; None for any.
    padding: That of the network, a name of models.resnet.PADDINGS.
    small_stem: The stem of a network whose first kernel is 3x3.
    preset: The evaluation preset.
    normalisation: (mean, std), of 224-pixel and of smaller images.
  """

  name: str
  of: str
  prefixes: tuple[str, ...] = ("",)
  containers: tuple[tuple[str, ...], ...] = ((), ("state_dict",), ("model",))
  dialect: Dialect = dialects.torchvision
  decoys: str = r"fc\..*"
  mark: str = ""
  order: Callable[[list[str]], bool] | None = None
  padding: str = "torch"
  small_stem: str = "small"
  preset: str = "center"
  normalisation: tuple = (IMAGENET, IMAGENET)


def shortcut_first(names: list[str]) -> bool:
  """Whether a block's shortcut was made before its first convolution, as TensorFlow's order has it.

  So it is in the network that simclr-converter fills (tonylins/simclr-converter, resnet_wider.py);
  torchvision makes it last. It alone tells such a file from torchvision's.
  """
  shortcut = next((i for i, n in enumerate(names) if ".downsample.0." in n), None)
  conv = next((i for i, n in enumerate(names) if re.fullmatch(r"layer\d\.0\.conv1\.weight", n)), -1)
  return shortcut is not None and shortcut < conv


SOLO_HEADS = (r"(momentum_)?(projector|classifier|backbone|encoder|prototypes|head)\..*"
              r"|predictor\..*|queue\w*|\w*_loss_func\..*")
LIGHTLY_HEADS = (r"(projection|prediction)_head\w*\..*|(teacher|student|online)\w*\..*"
                 r"|\w+_momentum\..*|(prototypes|criterion|memory_bank|fc|linear|\w*classifier)\..*")

# In the order in which they are tried; a later one must match more tensors to win.
LAYOUTS = (
    Layout("moco", "MoCo v1 and v2, PCL, CLSA, DiLo", ("module.encoder_q.", "encoder_q."),
           decoys=r"(module\.)?(encoder_q\.fc\..*|encoder_k\..*|queue\w*)"),
    Layout("moco_v3", "MoCo v3", ("module.base_encoder.", "base_encoder."),
           decoys=r"(module\.)?(base_encoder\.(fc|head)\..*|(momentum_encoder|predictor)\..*)"),
    Layout("pycontrast", "PyContrast: InsDis, PIRL, InfoMin, MoCo", ("module.encoder.",),
           (("model",),), decoys=r"module\.(encoder\.fc\..*|(head|head_jig|jigsaw)\..*)"),
    Layout("supcon", "SupContrast", ("encoder.", "encoder.module."), (("model",),),
           dialects.shortcut, r"(head|encoder(\.module)?\.fc)\..*",
           normalisation=(IMAGENET, CIFAR10)),
    Layout("swav", "SwAV, DeepCluster-v2, SeLa-v2", ("module.", ""), ((), ("state_dict",)),
           decoys=r"(module\.)?(projection_head|prototypes)\..*",
           mark=r"projection_head|prototypes",
           normalisation=(SWAV, SWAV)),
    Layout("simclr_v1", "SimCLR, by simclr-converter", order=shortcut_first,
           containers=(("state_dict",),), normalisation=(RAW, RAW)),
    Layout("simclr_v2", "SimCLR v2, by SimCLRv2-Pytorch", containers=(("resnet",),),
           dialect=dialects.separius, normalisation=(RAW, RAW)),
    Layout("simclr_v2", "SimCLR v2 with selective kernels, by SimCLRv2-Pytorch",
           containers=(("resnet",),), dialect=dialects.separius_selective,
           normalisation=(RAW, RAW)),
    Layout("vissl", "VISSL", ("_feature_blocks.", "trunk._feature_blocks."),
           (("classy_state_dict", "base_model", "model", "trunk"), ("model_state_dict",), ())),
    Layout("broad_study", "A Broad Study on Transferability (Lightning)", ("feature.",),
           (("state_dict",),), dialects.children,
           r"(feature_k|feature_extractor|moco|base_head|classifier|linear_evaluator)\..*"),
    Layout("solo_learn", "solo-learn", ("backbone.", "encoder."), (("state_dict",),),
           decoys=SOLO_HEADS, mark=r"^(projector|classifier)\.", small_stem="small_wide",
           normalisation=(IMAGENET, SOLO)),
    Layout("lightly", "lightly", ("backbone.", ""), dialect=dialects.children,
           mark=r"^(backbone\.)?0\.", decoys=LIGHTLY_HEADS),
    Layout("lightly", "lightly, its own small ResNets", ("backbone.", ""),
           dialect=dialects.lightly_children, mark=r"^(backbone\.)?0\.", decoys=LIGHTLY_HEADS),
    Layout("lightly", "lightly, with names", ("backbone.",), decoys=LIGHTLY_HEADS),
    Layout("dino", "DINO", ("backbone.", "module.backbone."), (("teacher",),),
           decoys=r"(module\.)?(head|backbone\.fc)\..*"),
    Layout("detectron2", "Detectron2", containers=(("model",),), dialect=dialects.detectron2),
    Layout("torchvision", "torchvision, timm, and encoders alone (DINO, ...)", ("", "module."),
           containers=((), ("state_dict",), ("model",), ("model_state_dict",), ("state_dict_ema",)),
           decoys=r"(module\.)?(fc|head|linear|classifier)\..*"),
    Layout("torchvision", "ResNets with `shortcut` in their blocks", ("", "module."),
           dialect=dialects.shortcut, decoys=r"(module\.)?(fc|linear)\..*"),
)

BYOL = Layout("byol", "BYOL and ReLICv2 (Haiku)", dialect=dialects.haiku, padding="same",
              preset="center_byol", decoys=r".*(projector|predictor|classifier|logits).*")
SIMCLR_TF = Layout(
    "simclr_tf", "SimCLR v1 and v2 (TensorFlow)", padding="simclr", preset="center_simclr",
    normalisation=(RAW, RAW),
    decoys=r"(?!base_model/).*|.*/(Momentum|\w*Optimizer\w*)")
ONNX = Layout("onnx", "ONNX graphs of ResNets")
EVERY = (*LAYOUTS, BYOL, SIMCLR_TF, ONNX)


def find(tree: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, np.ndarray]:
  """The arrays of the dictionary at a path of a file, by name; empty where there is none."""
  for key in path:
    tree = tree.get(key) if isinstance(tree, Mapping) else None
  if not isinstance(tree, Mapping):
    return {}
  return {k: v for k, v in tree.items() if isinstance(k, str) and isinstance(v, np.ndarray)}


def match(layout: Layout, prefix: str, tensors: Tensors) -> dict[str, str]:
  """Our names of those tensors that such a layout has -> their names."""
  names = list(tensors)
  if layout.mark and not any(re.search(layout.mark, name) for name in names):
    return {}
  if layout.order and not layout.order(names):
    return {}
  known = dialects.inverse(layout.dialect)
  return {known[name[len(prefix):]]: name for name in names
          if name.startswith(prefix) and name[len(prefix):] in known}


def preprocessing(layout: Layout, stem: str) -> dict[str, Any]:
  """How a network of such a checkpoint is shown images: of 224 pixels, or 32 with a small stem."""
  size, proportion = (224, 0.875) if stem in ("imagenet", "deep") else (32, 1.0)
  mean, std = layout.normalisation[0 if size == 224 else 1]
  return {"preset": layout.preset, "size": size, "proportion": proportion, "mean": list(mean),
          "std": list(std), "canvas": round(size / proportion)}
