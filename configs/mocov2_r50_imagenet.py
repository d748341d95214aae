"""MoCo v2, ResNet-50, ImageNet: 67.5 % linear top-1 after 200 epochs, 71.1 % after 800.

    python -m ssl_jax.main --config configs/mocov2_r50_imagenet.py --workdir gs://BUCKET/mocov2
    python -m ssl_jax.main --config configs/mocov2_r50_imagenet.py --config.total_epochs=800
    python -m ssl_jax.main --config configs/mocov2_r50_imagenet.py:small

Chen et al. 2020, arXiv:2003.04297, table 2. Not run here: the figures are theirs.
"""

from ml_collections import ConfigDict, config_dict

from configs import common


def get_config(name: str = "") -> ConfigDict:
  config = common.imagenet(common.get_config())
  common.duration(config, "total", epochs=200.0)
  config.batch_size = 256
  config.method = ConfigDict({"name": "moco_v2", "temperature": 0.2, "queue": 65536,
                              "decay": 0.999, "output": 128})
  config.model.norm_group = 32  # BatchNorm per GPU, of 32 images; the method shuffles the keys
  config.views = ConfigDict({"preset": "moco_v2", "size": 224, "min_area": 0.2, "blur": 0.5})
  config.optimizer = ConfigDict({"name": "sgd", "weight_decay": 1e-4, "momentum": 0.9,
                                 "clip_norm": config_dict.placeholder(float)})
  config.schedule.update({"name": "cosine_by_epoch", "base_lr": 0.03})
  return common.variant(config, name, queue=1024, decay=0.99)
