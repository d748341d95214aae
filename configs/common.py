"""Every field of a pretraining config, with a value that suits most runs.

A config file starts from here and says only what it changes. Durations are given in one unit of
`_steps`, `_epochs`, `_examples` or `_percent` (of the run); on the command line, a duration in one
unit replaces the same duration in another: `--config.total_steps=100` wins over 10 epochs.
"""

from ml_collections import ConfigDict, config_dict

UNITS = ("steps", "epochs", "examples", "percent")
# What the scenes may be told; None is the paper's value.
SCENE_OPTIONS = {"views": tuple, "probability": float, "backgrounds": str, "textures": str,
                 "blur": float, "radius": float, "fill": str, "threshold": float, "least": float,
                 "most": float}


def duration(config: ConfigDict, name: str, **given) -> None:
  """Adds the fields `{name}_{unit}`; `given` is one of them, such as `epochs=100`."""
  for unit in UNITS:
    kind = int if unit in ("steps", "examples") else float
    config[f"{name}_{unit}"] = config_dict.placeholder(kind)
  for unit, value in given.items():
    config[f"{name}_{unit}"] = value


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = "pretrain"
  config.seed = 0
  config.choose = False  # whether fields that are None are chosen from the images and the device

  # Data: bundled:NAME, tfds:NAME[/config], folder:/path, npz:/path.
  config.data = "bundled:fashion_mnist_mini"
  config.data_dir = ""  # where tfds sets lie; "" for $TFDS_DATA_DIR or ~/tensorflow_datasets
  config.train_split = "train"
  config.test_split = "test"  # for evaluation during and after training
  config.masks = ""  # foregrounds: "" for the records' own, "threshold", or a folder of them
  config.canvas = 0  # side of the square that images are stored in; 0 chooses from the crop size
  config.resident = "auto"  # whether the images live on the device: auto, yes, no
  config.resident_limit_mb = 2048  # what auto allows
  config.loader_threads = 0  # 0: one per core
  config.loader_workers = 0  # processes; 0 decodes in threads of this one

  config.batch_size = 256  # over all devices
  # In how many parts the batch goes through the network, for small devices: the loss is that of the
  # whole batch, BatchNorm that of a part, unless in groups (model.norm_group), which stay whole.
  config.micro_batches = 1
  # fsdp: among how many neighbouring devices parameters and optimizer state are divided, for nets
  # that one device cannot hold. A memory bank is divided over all devices anyway.
  config.mesh = ConfigDict({"fsdp": 1})
  duration(config, "total")
  # The encoder that training starts from: a workdir, a checkpoint of others or zoo:NAME, see
  # docs/checkpoints.md; model.name "init" takes its network as well.
  config.init = ""

  # The rest of `method`, `model`, `views` and `optimizer` are options of what is named.
  config.method = ConfigDict({"name": "simclr"})
  # norm_group: images that share BatchNorm statistics; 0 is the global batch. remat: computes a
  # block again in the backward pass instead of keeping what is inside it.
  config.model = ConfigDict({"name": "resnet50", "stem": "auto", "norm_group": 0,
                             "dtype": "float32", "remat": False})
  config.views = ConfigDict({"preset": "simclr", "size": 224})
  # What happens to backgrounds before the views: none, dilo, remove_background (augment/scenes.py).
  config.scene = ConfigDict({"name": "none"} | {
      option: config_dict.placeholder(kind) for option, kind in SCENE_OPTIONS.items()})
  config.optimizer = ConfigDict({"name": "sgd", "weight_decay": 1e-4,
                                 "clip_norm": config_dict.placeholder(float)})
  config.schedule = ConfigDict({
      "name": "cosine", "base_lr": 0.05, "scaling": "linear", "factor": 0.1,
      "boundaries_percent": ()})
  duration(config.schedule, "warmup", steps=0)

  config.log_every_steps = 10
  duration(config, "eval_every", percent=20.0)
  duration(config, "checkpoint_every", percent=10.0)
  config.keep = 2  # latest checkpoints kept; the best by on-line k-NN is kept beside them
  config.tensorboard = True
  config.profile = False  # write a trace of steps 10 to 15 to workdir/profile

  # Evaluation of the frozen encoder: during training on at most `online_images` of each split, at
  # the end on all of them, with a random encoder and raw pixels beside it.
  config.evaluate = ConfigDict({
      "knn_k": 20, "knn_temperature": 0.1, "online_images": 5000, "batch_size": 256,
      "final": True, "baselines": True, "few_per_class": 10, "few_draws": 5})
  return config


def imagenet(config: ConfigDict) -> ConfigDict:
  """ImageNet-1k as TFDS prepares it; its test split is the official validation set."""
  config.data = "tfds:imagenet2012"
  config.test_split = "validation"
  config.resident = "no"
  config.model.dtype = "bfloat16"
  # k-NN on the way costs a pass over 60,000 images; 200 neighbours as in Wu et al. 2018.
  config.evaluate.update({"knn_k": 200, "online_images": 10000, "baselines": False})
  return config


def small(config: ConfigDict, **options) -> ConfigDict:
  """The same method on the bundled images with a laptop's network, for a minute: `:small`.

  `options` are those of the method that a small network changes, such as the width of a head.
  """
  config.data = "bundled:fashion_mnist_mini"
  config.test_split = "test"
  config.resident = "auto"
  config.batch_size = 128
  duration(config, "total", epochs=1.0)
  config.model.update({
      "name": "resnet10", "width": 1.0, "stem": "strided", "stem_width": 16, "blocks": (1, 1, 1),
      "widths": (16, 32, 64), "strides": (1, 2, 2), "dtype": "float32"})
  config.views.size = 28
  duration(config.schedule, "warmup", percent=5.0)
  config.evaluate.update({"knn_k": 20, "online_images": 2000, "baselines": True})
  config.method.update(options)
  return config


def variant(config: ConfigDict, name: str, **options) -> ConfigDict:
  """What a config file's argument asks for: "" for the paper's run, or "small"."""
  if name not in ("", "small"):
    raise ValueError(f"config argument {name!r} is not known; write :small or nothing")
  return small(config, **options) if name else config
