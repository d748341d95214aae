"""Backbones, heads and the network that joins them: the only floor that knows Flax."""

from ssl_jax.models.heads import (
    MLP,
    Layer,
    Prototypes,
    byol_head,
    linear_head,
    moco_v2_head,
    moco_v3_predictor,
    moco_v3_projector,
    relic_head,
    simclr_head,
)
from ssl_jax.models.network import Network
from ssl_jax.models.registry import RESNETS, make_backbone, stem_for
from ssl_jax.models.resnet import ResNet

__all__ = [
    "MLP", "RESNETS", "Layer", "Network", "Prototypes", "ResNet", "byol_head", "linear_head",
    "make_backbone", "moco_v2_head", "moco_v3_predictor", "moco_v3_projector", "relic_head",
    "simclr_head", "stem_for"]
