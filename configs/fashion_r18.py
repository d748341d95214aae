"""ResNet-18 on the whole of Fashion-MNIST, for one GPU: 100 epochs at batch 512 in bfloat16.

    python -m ssl_jax.main --config configs/fashion_r18.py
    python -m ssl_jax.main --config configs/fashion_r18.py:byol
    python -m ssl_jax.main --config configs/fashion_r18.py:bundled
    python -m ssl_jax.main --config configs/fashion_r18.py:small

The argument is a method of configs/fashion.py, or `bundled` for SimCLR on the images that come with
the package, or `small` for a minute of SimCLR on a laptop. The small stem keeps every pixel, the
images lie on the device as uint8. Not run yet on a GPU: no figure is claimed.
"""

from ml_collections import ConfigDict

from configs import common, fashion

BATCH = 512
# For 11,700 steps: slower targets and a longer queue than a run of some hundred steps can use.
LONG = {"moco_v1": {"queue": 16384, "decay": 0.99}, "moco_v2": {"queue": 16384, "decay": 0.99},
        "byol": {"decay": 0.99, "hidden": 1024, "output": 128}}


def get_config(name: str = "") -> ConfigDict:
  method = "simclr" if name in ("", "bundled", "small") else name
  config = fashion.get_config(method)
  common.duration(config, "total", epochs=100.0)
  config.data = "bundled:fashion_mnist_mini" if name == "bundled" else "tfds:fashion_mnist"
  config.batch_size = BATCH
  config.model = ConfigDict({
      "name": "resnet18", "stem": "small", "dtype": "bfloat16",
      "norm_group": config.model.norm_group})
  if method == "simclr":
    config.method = ConfigDict({"name": "simclr", "temperature": 0.2, "depth": 2, "output": 128})
  config.method.update(LONG.get(method, {}))
  # 120 steps take a second on a GPU: metrics are fetched once in that time.
  config.log_every_steps = 100
  config.tensorboard = False
  return common.variant(config, "small" if name == "small" else "")
