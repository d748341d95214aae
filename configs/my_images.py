"""Your own images, with or without labels.

    python -m ssl_jax.main --config configs/my_images.py --config.data=folder:/photos
    python -m ssl_jax.main --config configs/my_images.py --config.data=list:/photos/train.csv

View size, network, batch, optimizer, learning rate and length are left open here: they are chosen
from the number and the size of the images and from the device, and the command says why. Whatever
you set yourself stays: `--config.views.size=128 --config.total_epochs=200`. The argument names the
method: simclr, or one of moco_v2 (its queue is chosen too) and byol for small batches.
"""

from ml_collections import ConfigDict, config_dict

from configs import common

PRESETS = {"simclr": "simclr", "moco_v2": "moco_v2", "byol": "byol"}


def open_field(kind) -> config_dict.FieldReference:
  return config_dict.placeholder(kind)


def get_config(method: str = "simclr") -> ConfigDict:
  if method not in PRESETS:
    raise ValueError(f"config argument {method!r} is not known; write one of {', '.join(PRESETS)}")
  config = common.get_config()
  config.choose = True
  config.data = ""
  config.batch_size = open_field(int)
  config.method = ConfigDict({"name": method})
  if method == "simclr":
    config.method.temperature = 0.2
  if method == "moco_v2":
    config.method.update({"queue": open_field(int), "decay": 0.99})
  if method == "byol":
    config.method.update({"decay": 0.98, "hidden": 1024, "output": 128})
  config.model = ConfigDict({"name": open_field(str), "stem": open_field(str),
                             "width": open_field(float), "norm_group": 0,
                             "dtype": open_field(str)})
  config.views = ConfigDict({"preset": PRESETS[method], "size": open_field(int), "min_area": 0.2})
  config.optimizer = ConfigDict({"name": open_field(str), "weight_decay": open_field(float),
                                 "momentum": 0.9, "clip_norm": open_field(float)})
  config.schedule.base_lr = open_field(float)
  common.duration(config.schedule, "warmup", percent=5.0)
  return config
