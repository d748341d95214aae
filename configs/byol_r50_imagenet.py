"""BYOL, ResNet-50, ImageNet: 74.3 % linear top-1 after 1000 epochs at batch 4096.

    python -m ssl_jax.main --config configs/byol_r50_imagenet.py --workdir gs://BUCKET/byol
    python -m ssl_jax.main --config configs/byol_r50_imagenet.py:300
    python -m ssl_jax.main --config configs/byol_r50_imagenet.py:small

The argument is a schedule of the released code: 40, 100, 300 (72.5 %) or 1000 epochs. Grill et al.
2020, arXiv:2006.07733, table 1a; the authors trained 1000 epochs in about 8 hours on 512 TPU v3
cores. Not run here: the figures are theirs.
"""

from ml_collections import ConfigDict, config_dict

from configs import common


def get_config(name: str = "") -> ConfigDict:
  # epochs -> learning rate per 256 images, weight decay, the target's rate at the start
  presets = {"40": (0.45, 1e-6, 0.97), "100": (0.45, 1e-6, 0.99), "300": (0.3, 1e-6, 0.99),
             "1000": (0.2, 1.5e-6, 0.996)}
  epochs = name if name in presets else "1000"
  base_lr, weight_decay, decay = presets[epochs]
  config = common.imagenet(common.get_config())
  common.duration(config, "total", epochs=float(epochs))
  config.batch_size = 4096
  config.method = ConfigDict({"name": "byol", "decay": decay, "hidden": 4096, "output": 256})
  # The paper's runs started the last norm of a block at one, today's Haiku at zero.
  config.model.update({"padding": "same", "kernel_init": "haiku", "shortcut": "every_stage",
                       "zero_init_last": False})
  config.views = ConfigDict({"preset": "byol", "size": 224, "evaluation": "center_byol"})
  config.optimizer = ConfigDict({"name": "lars_byol", "weight_decay": weight_decay,
                                 "momentum": 0.9, "clip_norm": config_dict.placeholder(float)})
  config.schedule.base_lr = base_lr
  common.duration(config.schedule, "warmup", epochs=10.0)
  return common.variant(config, "" if name in presets else name, decay=0.95, hidden=256, output=64)
