"""SupCon + 0.5 SelfSupCon, ResNet-50, ImageNet: 400 epochs at batch 1536.

    python -m ssl_jax.main --config configs/supcon_selfsupcon_r50_imagenet.py
    python -m ssl_jax.main --config configs/supcon_selfsupcon_r50_imagenet.py:small

The Broad Study, Islam et al. 2021, arXiv:2103.13517, released code: two projectors on one encoder.
It reports transfer to 12 sets, where this does better than SupCon. Not run here.
"""

from ml_collections import ConfigDict

from configs import ce_r50_imagenet, common


def get_config(name: str = "") -> ConfigDict:
  config = ce_r50_imagenet.contrastive("supcon_selfsupcon", supcon_weight=1.0,
                                       selfsupcon_weight=0.5)
  return common.variant(config, name, queue=1024, decay=0.99)
