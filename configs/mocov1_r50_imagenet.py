"""MoCo v1, ResNet-50, ImageNet: 60.6 % linear top-1 after 200 epochs at batch 256.

    python -m ssl_jax.main --config configs/mocov1_r50_imagenet.py --workdir gs://BUCKET/mocov1
    python -m ssl_jax.main --config configs/mocov1_r50_imagenet.py:small

He et al. 2020, arXiv:1911.05722, section 4 and table 1. Not run here: the figure is theirs.
"""

from ml_collections import ConfigDict, config_dict

from configs import common


def get_config(name: str = "") -> ConfigDict:
  config = common.imagenet(common.get_config())
  common.duration(config, "total", epochs=200.0)
  config.batch_size = 256
  config.method = ConfigDict({"name": "moco_v1", "temperature": 0.07, "queue": 65536,
                              "decay": 0.999, "output": 128})
  config.model.norm_group = 32  # BatchNorm per GPU, of 32 images; the method shuffles the keys
  config.views = ConfigDict({"preset": "moco_v1", "size": 224, "min_area": 0.2})
  config.optimizer = ConfigDict({"name": "sgd", "weight_decay": 1e-4, "momentum": 0.9,
                                 "clip_norm": config_dict.placeholder(float)})
  config.schedule.update({"name": "steps", "base_lr": 0.03, "factor": 0.1,
                          "boundaries_percent": (60.0, 80.0)})  # epochs 120 and 160
  return common.variant(config, name, queue=1024, decay=0.99)
