"""CLSA, five crops, ResNet-50, ImageNet: 73.3 % linear top-1 after 200 epochs, 76.2 after 800.

    python -m ssl_jax.main --config configs/clsa_multi_r50_imagenet.py --workdir gs://BUCKET/clsa
    python -m ssl_jax.main --config configs/clsa_multi_r50_imagenet.py --config.total_epochs=800
    python -m ssl_jax.main --config configs/clsa_multi_r50_imagenet.py:small

Five weak and five strong crops of 224, 192, 160, 128 and 96 pixels; all else is the single crop's.
Wang and Qi 2021, arXiv:2104.07713, and the README of the released code (CLSA*); batch and learning
rate of the 800 epochs, on 32 GPUs, were not published. Not run here: the figures are theirs.
"""

from ml_collections import ConfigDict

from configs import clsa_single_r50_imagenet, common


def get_config(name: str = "") -> ConfigDict:
  config = clsa_single_r50_imagenet.get_config()
  config.views.preset = "clsa_multi"
  return common.variant(config, name, queue=1024, decay=0.99)
