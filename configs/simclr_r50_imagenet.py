"""SimCLR (v1), ResNet-50, ImageNet: 69.3 % linear top-1 after 1000 epochs at batch 4096.

    python -m ssl_jax.main --config configs/simclr_r50_imagenet.py --workdir gs://BUCKET/simclr
    python -m ssl_jax.main --config configs/simclr_r50_imagenet.py:small

Chen et al. 2020, arXiv:2002.05709, section 2.2 and table 6 (69.1 % is the released checkpoint; 100
epochs give 64.5 %). The authors trained 100 epochs in about 6 hours on 32 TPU v3 cores. Not run
here: the figure is theirs.
"""

from ml_collections import ConfigDict, config_dict

from configs import common


def get_config(name: str = "") -> ConfigDict:
  config = common.imagenet(common.get_config())
  common.duration(config, "total", epochs=1000.0)
  config.batch_size = 4096
  config.method = ConfigDict({"name": "simclr", "temperature": 0.1, "depth": 2, "output": 128})
  config.model.update({"padding": "simclr", "kernel_init": "simclr", "zero_init_last": True})
  # Brightness is additive in v1; pixels stay in [0, 1], without mean and deviation.
  config.views = ConfigDict({"preset": "simclr_v1", "size": 224, "strength": 1.0, "blur": 0.5,
                             "evaluation": "center_simclr"})
  config.optimizer = ConfigDict({"name": "lars_simclr", "weight_decay": 1e-6, "momentum": 0.9,
                                 "clip_norm": config_dict.placeholder(float)})
  config.schedule.base_lr = 0.3  # 4.8 at batch 4096
  common.duration(config.schedule, "warmup", epochs=10.0)
  return common.variant(config, name)
