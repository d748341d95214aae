"""What a frozen encoder's layers hold, how like another's they are, and where it looks.

    python -m ssl_jax.main --config configs/transfer/analysis.py --config.init=WORKDIR

Linear probes, distances of the classes and RankMe by layer; calibration; alignment and uniformity;
CKA between layers and, with `--config.others="('WORKDIR',)"`, between encoders; occlusion maps;
images found from features. results.json and figures as PNG go to WORKDIR/analysis. docs/analyses.md
has the equations. The papers invert in 3,000 steps and slide patches by 1.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      "task": "analysis", "init": "", "seed": 0,
      "data": "", "data_dir": "", "train_split": "", "test_split": "",  # "": the encoder's own
      "images": 2000,  # of each split, drawn at random
      "batch_size": 200,
      "others": (),  # workdirs of encoders to compare layers with
      # window 0: 10 pixels of 224, at least 3.
      "attention": {"images": 8, "window": 0, "stride": 1},
      # channels: of the generator's scales, each of which halves the image. judge: the workdir of
      # the encoder that measures the perceptual distance; "" is this one.
      "inversion": {"images": 4, "steps": 1000, "learning_rate": 1e-3, "channels": (32, 64),
                    "judge": ""}})
