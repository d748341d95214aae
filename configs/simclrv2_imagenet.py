"""SimCLR v2, ImageNet: 71.7 % linear top-1 with ResNet-50, 79.8 % with ResNet-152 3x and SK.

    python -m ssl_jax.main --config configs/simclrv2_imagenet.py --workdir gs://BUCKET/simclrv2
    python -m ssl_jax.main --config configs/simclrv2_imagenet.py:r50_sk
    python -m ssl_jax.main --config configs/simclrv2_imagenet.py:small

The argument names a network, `_sk` one with selective kernels and ResNet-D (millions of parameters,
linear top-1 in percent; fine-tuned with all labels):

    r50    24  71.7  76.3      r50_sk     35  74.6  78.7
    r50x2  94  75.6  79.1      r50x2_sk  140  77.7  81.3
    r101   43  73.6  78.2      r101_sk    65  76.3  80.6
    r101x2 170 77.0  80.7      r101x2_sk 257  79.0  82.4
    r152   58  74.5  79.3      r152_sk    89  77.2  81.3
    r152x2 233 77.4  81.1      r152x2_sk 354  79.4  82.9
                               r152x3_sk 795  79.8  83.1

Chen et al. 2020b, arXiv:2006.10029, and the table of its released code; 800 epochs at batch 4096.
Peak learning rate and warm-up are recollections of the paper. Its optional memory of 64k negatives
is not part of it. Not run here: the figures are theirs.
"""

from ml_collections import ConfigDict

from configs import common, simclr_r50_imagenet

NETWORKS = {f"r{depth}{f'x{width}' if width > 1 else ''}{kernels}":
            (f"resnet{depth}{kernels}", float(width))
            for depth, widths in ((50, (1, 2)), (101, (1, 2)), (152, (1, 2, 3)))
            for width in widths for kernels in ("", "_sk") if (width, kernels) != (3, "")}


def get_config(name: str = "") -> ConfigDict:
  config = simclr_r50_imagenet.get_config()
  backbone, width = NETWORKS.get(name, NETWORKS["r50"])
  config.model.update({"name": backbone, "width": width})
  common.duration(config, "total", epochs=800.0)
  config.method.depth = 3
  config.views.preset = "simclr"  # brightness is multiplied
  config.optimizer.weight_decay = 1e-4
  config.schedule.update({"base_lr": 0.1, "scaling": "sqrt"})  # 6.4 at batch 4096
  common.duration(config.schedule, "warmup", percent=5.0)
  config = common.variant(config, "" if name in NETWORKS else name)
  if name == "small":
    config.model.update({"block": "selective", "projection": "pooled"})
  return config
