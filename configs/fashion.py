"""Every method at the quickstart's budget: the runs of docs/results.md.

    python -m ssl_jax.main --config configs/fashion.py:byol
    python -m ssl_jax.main --config configs/fashion.py:byol --config.data=tfds:fashion_mnist

The argument names a method, any of them: simclr (as in the quickstart), moco_v2, clsa, relicv2, ...
Network, views, batch and length are the quickstart's for all (CLSA and ReLICv2 have views of their
own); what a method needs beside that is below. The epochs are those of the bundled images: on the
full set the number of steps stays, so that a run costs the same.
"""

from ml_collections import ConfigDict

from configs import common, quickstart

# The target's rate and the queue's length are for runs of about a thousand steps. With the papers'
# 0.999 the target would stay where it started; with 0.97 its keys change within the queue, the
# query learns to tell new ones from old, and the features end below random ones.
# Losses that are a mean in one direction take a higher learning rate than SimCLR's sum.
MOCO = {"temperature": 0.2, "queue": 1024, "decay": 0.99, "hidden": 256, "output": 64}
LABELLED_QUEUE = MOCO | {"temperature": 0.1}
METHODS = {
    "simclr": None,
    "moco_v1": {"temperature": 0.2, "queue": 1024, "decay": 0.99, "output": 64},
    "moco_v2": MOCO,
    "moco_v3": {"temperature": 0.2, "decay": 0.98, "hidden": 512, "output": 64},
    "clsa": MOCO,
    "clsa_symmetric": MOCO,
    "byol": {"decay": 0.98, "hidden": 512, "output": 64},
    "relic": {"temperature": 0.2, "decay": 0.98, "widths": (512, 64)},
    # With the paper's weights, 0.3 and 5, hundreds of steps go by with all predictions flat.
    "relicv2": {"contrastive_weight": 1.0, "invariance_weight": 1.0, "decay": 0.98,
                "widths": (512, 64)},
    "supcon": {"temperature": 0.1, "base_temperature": 0.07, "hidden": 256, "output": 64},
    "supcon_queue": LABELLED_QUEUE,
    "supervised": {},
    "selfsupcon": MOCO,
    "ce_selfsupcon": MOCO,
    "supcon_selfsupcon": LABELLED_QUEUE,
}
BASE_LR = {"moco_v1": 0.3, "moco_v2": 0.3, "moco_v3": 0.3, "clsa": 0.3, "clsa_symmetric": 0.3,
           "byol": 0.3, "relicv2": 0.3, "selfsupcon": 0.3}
PRESETS = {"clsa": "clsa_single", "clsa_symmetric": "clsa_single"}
BUNDLED = 10_000  # training images of bundled:fashion_mnist_mini


def get_config(method: str = "simclr") -> ConfigDict:
  config = quickstart.get_config()
  if method not in METHODS:
    raise ValueError(f"config argument {method!r} is not known; write one of {', '.join(METHODS)}")
  steps = config.total_steps or int(config.total_epochs * (BUNDLED // config.batch_size))
  common.duration(config, "total", steps=steps)
  if METHODS[method] is not None:
    config.method = ConfigDict({"name": method} | METHODS[method])
  config.schedule.base_lr = BASE_LR.get(method, config.schedule.base_lr)
  config.views.preset = PRESETS.get(method, config.views.preset)
  if method == "relicv2":
    config.views = ConfigDict({"preset": "relicv2", "size": 28, "small_size": 12,
                               "large_area": (0.2, 1.0), "small_area": (0.1, 0.4)})
  if "queue" in config.method:
    config.model.norm_group = 32  # as in the papers: 8 devices of 32 images
  return config
