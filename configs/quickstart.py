"""Pretraining on 10,000 bundled images, on a laptop, in minutes.

    python -m ssl_jax.main --config configs/quickstart.py
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  config = common.get_config()
  common.duration(config, "total", epochs=10.0)
  config.batch_size = 256
  config.method = ConfigDict({"name": "simclr", "temperature": 0.2, "depth": 2, "hidden": 256, "output": 64})
  config.model = ConfigDict({
      "name": "resnet10", "blocks": (1, 1, 1), "widths": (32, 64, 128), "strides": (1, 2, 2),
      "stem_width": 32, "stem": "strided"})
  config.views = ConfigDict({"preset": "simclr", "size": 28, "strength": 0.5, "blur": 0.0, "min_area": 0.2})
  config.optimizer = ConfigDict({"name": "sgd", "weight_decay": 1e-4, "momentum": 0.9})
  config.schedule.base_lr = 0.1
  common.duration(config.schedule, "warmup", percent=5.0)
  return config
