"""SupCon with a labelled queue, ResNet-50, ImageNet: 400 epochs at batch 1536.

    python -m ssl_jax.main --config configs/supcon_queue_r50_imagenet.py
    python -m ssl_jax.main --config configs/supcon_queue_r50_imagenet.py:small

The Broad Study, Islam et al. 2021, arXiv:2103.13517, released code, which reports transfer to 12
sets. The authors of SupCon have 79.1 % top-1 with a momentum encoder (arXiv:2004.11362, code). Not
run here.
"""

from ml_collections import ConfigDict

from configs import ce_r50_imagenet, common


def get_config(name: str = "") -> ConfigDict:
  config = ce_r50_imagenet.contrastive("supcon_queue")
  return common.variant(config, name, queue=1024, decay=0.99)
