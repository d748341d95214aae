"""Every method on composed colour scenes, whose backgrounds can be swapped: docs/results.md.

    python -m ssl_jax.data.composed --size 48
    python -m ssl_jax.main --config configs/composed.py:moco_v2
    python -m ssl_jax.main --config configs/composed.py:dilo_true
    python -m ssl_jax.main --config configs/eval/backgrounds.py --config.init=runs/composed

The argument names a method of configs/fashion.py, whose network, length and options it takes, or a
row that a claim of a paper is tested by:

    moco_v2_strong    CLSA's strong views straight into MoCo's contrastive loss
    clsa_multi        CLSA with its five weak and five strong views; clsa has one of each
    dilo_true         MoCo v2 with DiLo's pasting, by the true masks: the ceiling
    dilo_rbd          the same by masks of an estimator, also dilo_gs, dilo_mbd, dilo_mc and
                      dilo_learned; made by
                      python -m ssl_jax.saliency --data tfds:composed/48px --method rbd \
                          --out runs/masks/composed-rbd
    relicv2_true      ReLICv2 with background removal by the true masks; relicv2 has none
    relicv2_learned   the same by masks of the learned estimator, as in the paper
    relic_no_kl       ReLIC without its invariance term

Views of 32 pixels are cut out of images of 48.
"""

from ml_collections import ConfigDict

from configs import common, fashion

ESTIMATORS = ("gs", "mbd", "rbd", "mc", "learned")
DILO = {"name": "dilo", "probability": 0.3, "backgrounds": "grey", "blur": 0.5,
        "radius": 0.7}  # 5 pixels of ImageNet's 350, at 48
MASKS = {"true": ""} | {name: f"runs/masks/composed-{name}" for name in ESTIMATORS}
ROWS = {
    "moco_v2_strong": "moco_v2", "clsa_multi": "clsa",
    **{f"dilo_{masks}": "moco_v2" for masks in MASKS},
    **{f"relicv2_{masks}": "relicv2" for masks in ("true", "learned")},
    "relic_no_kl": "relic",
}


def get_config(name: str = "moco_v2") -> ConfigDict:
  if name not in ROWS and name not in fashion.METHODS:
    raise ValueError(f"config argument {name!r} is not known; write one of "
                     f"{', '.join([*fashion.METHODS, *ROWS])}")
  config = fashion.get_config(ROWS.get(name, name))
  config.data = "tfds:composed/48px"
  config.canvas = 48
  config.views.size = 32
  if config.views.preset == "relicv2":
    config.views.small_size = 14
  host, _, masks = name.partition("_")
  if name in ("moco_v2_strong", "clsa_multi"):
    config.views.preset = name
  if name in ROWS and masks in MASKS:
    config.masks = MASKS[masks]
    config.scene = ConfigDict(DILO if host == "dilo" else {"name": "remove_background",
                                                           "probability": 0.1})
  if name == "relic_no_kl":
    config.method.invariance_weight = 0.0
  common.duration(config, "total", steps=config.total_steps)
  return config
