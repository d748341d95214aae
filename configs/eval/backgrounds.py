"""Linear probe of a frozen encoder, scored on test images whose backgrounds were swapped.

    python -m ssl_jax.main --config configs/eval/backgrounds.py --config.init=WORKDIR
    python -m ssl_jax.main --config configs/eval/backgrounds.py --config.init=WORKDIR \
        --config.data=tfds:composed --config.train_split=train --config.test_split=test

Logistic regression on features of the unaugmented training images, its penalty chosen among them,
is scored on the test images and on their variants: the object on another background of its own
class (mixed_same), on one of other classes (mixed_rand), on black (only_fg), and the background
alone (only_bg). The data must have these splits, as `python -m ssl_jax.data.composed` makes them.

results.json has the accuracy on each, `top1_gap` (mixed_same less mixed_rand: Xiao et al. 2020,
arXiv:2006.09994) and `top1_drop` (the original less mixed_rand), in percentage points. Chance is
100 / classes; only_bg above it is what the backgrounds give away.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      "task": "backgrounds", "init": "", "seed": 0,
      "data": "", "data_dir": "", "train_split": "", "test_split": "",  # "": the encoder's own
      "batch_size": 256})
