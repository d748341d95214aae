"""SupCon, ResNet-50, CIFAR-10: 96.0 % linear top-1 after 1000 epochs at batch 1024.

    python -m ssl_jax.main --config configs/supcon_r50_cifar10.py
    python -m ssl_jax.main --config configs/supcon_r50_cifar10.py:small

Khosla et al. 2020, arXiv:2004.11362, table 2, with the released code's recipe; its warm-up starts
at 0.01 and its cosine ends at 0.0005, here both at 0. Not run here: the figure is theirs.
"""

from ml_collections import ConfigDict, config_dict

from configs import common


def get_config(name: str = "") -> ConfigDict:
  config = common.get_config()
  config.data = "tfds:cifar10"
  common.duration(config, "total", epochs=1000.0)
  config.batch_size = 1024
  config.method = ConfigDict({"name": "supcon", "temperature": 0.1, "base_temperature": 0.07,
                              "output": 128})
  config.views = ConfigDict({"preset": "supcon", "size": 32, "min_area": 0.2})
  config.optimizer = ConfigDict({"name": "sgd", "weight_decay": 1e-4, "momentum": 0.9,
                                 "clip_norm": config_dict.placeholder(float)})
  config.schedule.update({"base_lr": 0.5, "scaling": "none"})
  common.duration(config.schedule, "warmup", epochs=10.0)
  return common.variant(config, name)
