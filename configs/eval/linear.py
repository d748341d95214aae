"""Linear probe of a frozen encoder: random crops and flips, SGD, as a paper does it.

    python -m ssl_jax.main --config configs/eval/linear.py --config.init=WORKDIR
    python -m ssl_jax.main --config configs/eval/linear.py:byol --config.init=WORKDIR

The argument names the paper: moco, simclr (default), byol, relicv2 or supcon. Where a recipe sweeps
learning rates, a tenth of the training images chooses; the test images are scored once. `epochs`,
`batch_size` and `learning_rates` (per 256 images) are the recipe's unless set.
"""

from ml_collections import ConfigDict

CROPS = {"moco": "crop_flip", "simclr": "crop_flip_simclr", "byol": "crop_flip_byol",
         "relicv2": "crop_flip_byol", "supcon": "crop_flip"}


def get_config(recipe: str = "simclr") -> ConfigDict:
  if recipe not in CROPS:
    raise ValueError(f"recipe {recipe!r} is not known; write one of {', '.join(CROPS)}")
  return ConfigDict({
      "task": "linear", "init": "", "recipe": recipe, "seed": 0,
      "data": "", "data_dir": "", "train_split": "", "test_split": "",  # "": the encoder's own
      "batch_size": 0, "epochs": 0.0, "learning_rates": (), "validation_percent": 10.0,
      "views": {"preset": CROPS[recipe], "min_area": 0.08}})
