"""k nearest neighbours of a frozen encoder's features, by cosine, votes weighted by temperature.

    python -m ssl_jax.main --config configs/eval/knn.py --config.init=WORKDIR

k = 20 and 200, temperature 0.1: Wu et al. 2018, arXiv:1805.01978, section 3.4 (k = 200, 0.07) and
its use since.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      "task": "knn", "init": "", "seed": 0,
      "data": "", "data_dir": "", "train_split": "", "test_split": "",  # "": the encoder's own
      "batch_size": 256, "k": (20, 200), "temperature": 0.1})
