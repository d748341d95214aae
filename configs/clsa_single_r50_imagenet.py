"""CLSA, single crop, ResNet-50, ImageNet: 69.4 % linear top-1 after 200 epochs, 72.2 after 800.

    python -m ssl_jax.main --config configs/clsa_single_r50_imagenet.py --workdir gs://BUCKET/clsa
    python -m ssl_jax.main --config configs/clsa_single_r50_imagenet.py --config.total_epochs=800
    python -m ssl_jax.main --config configs/clsa_single_r50_imagenet.py:small

Wang and Qi 2021, arXiv:2104.07713, and the README of the released code. Not run here: the figures
are theirs, and so is the remark that the symmetric loss, --config.method.name=clsa_symmetric, was
not verified. What strong views do without the divergence is the MoCo of
configs/mocov2_r50_imagenet.py with --config.views.preset=moco_v2_strong.
"""

from ml_collections import ConfigDict, config_dict

from configs import common


def get_config(name: str = "") -> ConfigDict:
  config = common.imagenet(common.get_config())
  common.duration(config, "total", epochs=200.0)
  config.batch_size = 256
  config.method = ConfigDict({
      "name": "clsa", "temperature": 0.2, "divergence_temperature": 0.2, "alpha": 1.0,
      "candidates": "batch_and_queue", "queue": 65536, "decay": 0.999, "output": 128})
  config.model.norm_group = 32  # BatchNorm per GPU, of 32 images; the method shuffles the keys
  config.views = ConfigDict({"preset": "clsa_single", "size": 224, "min_area": 0.2, "blur": 0.5,
                             "draws": 5, "probability": 0.5})
  config.optimizer = ConfigDict({"name": "sgd", "weight_decay": 1e-4, "momentum": 0.9,
                                 "clip_norm": config_dict.placeholder(float)})
  config.schedule.update({"name": "cosine_by_epoch", "base_lr": 0.03})
  return common.variant(config, name, queue=1024, decay=0.99)
