"""MoCo v3, ResNet-50, ImageNet: 74.6 % linear top-1 after 1000 epochs at batch 4096.

    python -m ssl_jax.main --config configs/mocov3_r50_imagenet.py --workdir gs://BUCKET/mocov3
    python -m ssl_jax.main --config configs/mocov3_r50_imagenet.py:300
    python -m ssl_jax.main --config configs/mocov3_r50_imagenet.py:small

The argument is a schedule of the released code: 100 (68.9 %), 300 (72.8 %) or 1000 epochs. Chen et
al. 2021, arXiv:2104.02057, released code and its figures. Not run here.
"""

from ml_collections import ConfigDict, config_dict

from configs import common


def get_config(name: str = "") -> ConfigDict:
  # epochs -> learning rate per 256 images, weight decay, the target's rate at the start
  presets = {"100": (0.6, 1e-6, 0.99), "300": (0.3, 1e-6, 0.99), "1000": (0.3, 1.5e-6, 0.996)}
  epochs = name if name in presets else "1000"
  base_lr, weight_decay, decay = presets[epochs]
  config = common.imagenet(common.get_config())
  common.duration(config, "total", epochs=float(epochs))
  config.batch_size = 4096
  config.method = ConfigDict({"name": "moco_v3", "temperature": 1.0, "decay": decay,
                              "hidden": 4096, "output": 256})
  config.model.zero_init_last = True
  config.views = ConfigDict({"preset": "moco_v3", "size": 224, "min_area": 0.2})
  # LARS with the learning rate outside the momentum, as in BYOL.
  config.optimizer = ConfigDict({"name": "lars_byol", "weight_decay": weight_decay,
                                 "momentum": 0.9, "clip_norm": config_dict.placeholder(float)})
  config.schedule.base_lr = base_lr
  common.duration(config.schedule, "warmup", epochs=10.0)
  return common.variant(config, "" if name in presets else name, decay=0.95, hidden=256, output=64)
