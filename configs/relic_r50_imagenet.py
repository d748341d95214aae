"""ReLIC, ResNet-50, ImageNet: 74.8 % linear top-1 after 1000 epochs at batch 4096.

    python -m ssl_jax.main --config configs/relic_r50_imagenet.py --workdir gs://BUCKET/relic
    python -m ssl_jax.main --config configs/relic_r50_imagenet.py:small

Mitrovic et al. 2021, arXiv:2010.07922, with a target network and BYOL's recipe. No code was
released: temperature, weight and widths are readings of the paper. Not run here: the figure is
theirs.
"""

from ml_collections import ConfigDict

from configs import byol_r50_imagenet, common


def get_config(name: str = "") -> ConfigDict:
  config = byol_r50_imagenet.get_config()
  config.method = ConfigDict({"name": "relic", "temperature": 0.1, "invariance_weight": 1.0,
                              "invariance": "swap_views", "decay": 0.996,
                              "widths": (4096, 2048, 1024, 512)})
  return common.variant(config, name, decay=0.95, widths=(256, 64))
