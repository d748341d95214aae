"""Cross-entropy, ResNet-50, ImageNet, by the recipe of the Broad Study: 400 epochs at batch 1536.

    python -m ssl_jax.main --config configs/ce_r50_imagenet.py --workdir gs://BUCKET/ce
    python -m ssl_jax.main --config configs/ce_r50_imagenet.py:small

What supcon_queue, selfsupcon, ce_selfsupcon and supcon_selfsupcon are compared with, and what they
share but for the views, which are here crop and flip only. Islam et al. 2021, arXiv:2103.13517,
released code: 24 GPUs of 64 images, BatchNorm on each, learning rate 0.02 per GPU. The study
reports transfer to 12 sets, where joint objectives do better than supervised ones. Not run here.
"""

from ml_collections import ConfigDict, config_dict

from configs import common


def get_config(name: str = "") -> ConfigDict:
  config = common.imagenet(common.get_config())
  common.duration(config, "total", epochs=400.0)
  config.batch_size = 1536
  config.method = ConfigDict({"name": "supervised"})
  config.model.norm_group = 64
  config.views = ConfigDict({"preset": "crop_flip", "size": 224, "min_area": 0.2})
  config.optimizer = ConfigDict({"name": "sgd", "weight_decay": 1e-4, "momentum": 0.9,
                                 "clip_norm": config_dict.placeholder(float)})
  config.schedule.update({"name": "warmup_cosine_by_epoch", "base_lr": 0.08})  # 0.48 at batch 1536
  common.duration(config.schedule, "warmup", epochs=5.0)
  return common.variant(config, name)


def contrastive(method: str, **options) -> ConfigDict:
  """The same recipe for a method with keys, on the study's contrastive views: those of MoCo v2."""
  config = get_config()
  config.method = ConfigDict({"name": method, "temperature": 0.07, "queue": 64000, "decay": 0.999,
                              "output": 128, **options})
  config.views = ConfigDict({"preset": "moco_v2", "size": 224, "min_area": 0.2, "blur": 0.5})
  return config
