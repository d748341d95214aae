"""Writes tests/convert/simclr/: a checkpoint by TensorFlow itself, with the names of SimCLR.

    python tests/convert/make_simclr_checkpoint.py    # needs tensorflow-cpu 2.21 and this folder

The weights are those of the thin ResNet-18 of `simclr_tensors(0)`, which the test makes again.
"""

import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
WIDTH = 2


def simclr_tensors(net) -> dict[str, np.ndarray]:
  """The variables that SimCLR's TensorFlow code has for a PyTorch network in its order.

  They are numbered as they are made: of a block, the projection's first (google-research/simclr,
  resnet.py; `net` must register its modules in that order).
  """
  from torch import nn

  tensors, convs, norms = {}, 0, 0
  for module in net.modules():
    if isinstance(module, nn.Conv2d):
      name = "base_model/conv2d" + (f"_{convs}" if convs else "")
      tensors[f"{name}/kernel"] = module.weight.detach().numpy().transpose(2, 3, 1, 0)
      convs += 1
    elif isinstance(module, nn.BatchNorm2d):
      name = "base_model/batch_normalization" + (f"_{norms}" if norms else "")
      for theirs, value in (("gamma", module.weight), ("beta", module.bias),
                            ("moving_mean", module.running_mean),
                            ("moving_variance", module.running_var)):
        tensors[f"{name}/{theirs}"] = value.detach().numpy()
      norms += 1
  decoys = {f"{name}/Momentum": np.zeros_like(value) for name, value in tensors.items()
            if not name.endswith(("mean", "variance"))}
  return tensors | decoys | {
      "head_supervised/linear_layer/dense/kernel": np.zeros((4, 3), np.float32),
      "head_contrastive/nl_0/batch_normalization/gamma": np.ones(4, np.float32),
      "global_step": np.int64(7)}


def simclr_network(seed=0):
  """A thin ResNet-18 as SimCLR has it: a projection in every stage, its max-pool padded SAME."""
  from torch_resnet_reference import ResNet

  return ResNet("basic", WIDTH, padding="simclr", seed=seed, first=True, project_first=True)


def main():
  sys.path.append(str(HERE))
  import tensorflow.compat.v1 as tf

  with np.load(sys.argv[1]) as tensors, tf.Graph().as_default(), tf.Session() as session:
    variables = [tf.get_variable(name, initializer=tensors[name]) for name in tensors]
    session.run([v.initializer for v in variables])
    (HERE / "simclr").mkdir(exist_ok=True)
    tf.train.Saver(variables).save(session, str(HERE / "simclr" / "model.ckpt-7"),
                                   write_meta_graph=False)


if __name__ == "__main__":
  main()
