"""SelfSupCon (MoCo v2 at 0.07), ResNet-50, ImageNet: 400 epochs at batch 1536.

    python -m ssl_jax.main --config configs/selfsupcon_r50_imagenet.py
    python -m ssl_jax.main --config configs/selfsupcon_r50_imagenet.py:small

The Broad Study, Islam et al. 2021, arXiv:2103.13517, released code, which reports transfer to 12
sets. MoCo v2 itself has 67.5 % linear top-1 after 200 epochs and 71.1 % after 800. Not run here.
"""

from ml_collections import ConfigDict

from configs import ce_r50_imagenet, common


def get_config(name: str = "") -> ConfigDict:
  config = ce_r50_imagenet.contrastive("selfsupcon")
  return common.variant(config, name, queue=1024, decay=0.99)
