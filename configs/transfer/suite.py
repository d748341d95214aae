"""The transfer suite: every protocol on every set whose data is there, for one frozen encoder.

    python -m ssl_jax.main --config configs/transfer/suite.py --config.init=WORKDIR
    python -m ssl_jax.main --config configs/transfer/suite.py:offline --config.init=WORKDIR

The same command goes on where it was stopped. `offline` takes the sets that need no download.
Choose with `--config.sets="('pets', 'dtd')"` and `--config.protocols="('linear',)"`; a set that is
missing is reported with the way to get it. Sets lie in `data_dir`: TFDS's folders, and official
archives unpacked as they come (ssl_jax/data/transfer_sets.py, archives.py).
"""

from ml_collections import ConfigDict

OFFLINE = ("fashion_mnist_mini", "digits", "mnist_5k", "composed")


def get_config(which: str = "") -> ConfigDict:
  if which not in ("", "offline"):
    raise ValueError(f"config argument {which!r} is not known; write :offline or nothing")
  return ConfigDict({
      "task": "suite", "init": "", "seed": 0, "data_dir": "",  # "": TFDS's folder
      "sets": OFFLINE if which else (), "protocols": (),  # (): all
      # How images are shown; "" and 0 are the encoder's own. Ericsson et al. show all encoders
      # the shorter side resized to 224, then its centre: preset center_bicubic, proportion 1.
      "view": {"preset": "", "size": 0, "proportion": 0.0},
      "batch_size": 256,
      "report": True,  # write report.html and report.md at the end
      "solver": "converged",  # or sklearn_path, the original's early-stopped one
      "slots": 1,  # penalties that advance together; more for small problems on an accelerator
      "knn_k": 20, "shots": (1, 5, 20, 50), "episodes": 600,
      "corrupted_images": 2000, "severities": (1, 2, 3, 4, 5)})
