"""Cross-entropy, ResNet-50, ImageNet: 76.1 % top-1 after 90 epochs, torchvision's recipe.

    python -m ssl_jax.main --config configs/supervised_r50_imagenet.py
    python -m ssl_jax.main --config configs/supervised_r50_imagenet.py:small

He et al. 2016, arXiv:1512.03385; Goyal et al. 2017, arXiv:1706.02677 for batch 256. Not run here:
the figure is torchvision's.
"""

from ml_collections import ConfigDict, config_dict

from configs import common


def get_config(name: str = "") -> ConfigDict:
  config = common.imagenet(common.get_config())
  common.duration(config, "total", epochs=90.0)
  config.batch_size = 256
  config.method = ConfigDict({"name": "supervised"})
  config.model.norm_group = 32
  config.views = ConfigDict({"preset": "crop_flip", "size": 224})
  config.optimizer = ConfigDict({"name": "sgd", "weight_decay": 1e-4, "momentum": 0.9,
                                 "clip_norm": config_dict.placeholder(float)})
  config.schedule.update({"name": "steps", "base_lr": 0.1, "factor": 0.1,
                          "boundaries_percent": (100 * 30 / 90, 100 * 60 / 90)})
  return common.variant(config, name)
