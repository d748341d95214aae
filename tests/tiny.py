"""Runs small enough for tests: real methods, presets and data; a network of two thin blocks."""

import functools
import pathlib
import sys
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

sys.path.append(str(pathlib.Path(__file__).parent.parent))  # for `configs`

from ssl_jax import build, config, data, program
from ssl_jax.methods import METHODS
from ssl_jax.models.norm import BatchNorm
from ssl_jax.sharding import global_batch, make_mesh
from ssl_jax.step import loss_and_gradients
from ssl_jax.types import Run

MODEL = {"name": "resnet10", "blocks": (1, 1), "widths": (8, 16), "strides": (1, 2),
         "stem": "strided", "stem_width": 8}
OPTIONS = {"moco_v1": {"queue": 48}, "moco_v2": {"queue": 48},
           "byol": {"hidden": 32, "output": 16, "decay": 0.9},
           "moco_v3": {"hidden": 32, "output": 16, "decay": 0.9},
           "relic": {"widths": (32, 24, 16), "decay": 0.9},
           "relicv2": {"widths": (32, 16), "negatives": 3, "decay": 0.9},
           **{name: {"queue": 48, "output": 16} for name in (
               "clsa", "clsa_symmetric", "supcon_queue", "selfsupcon", "ce_selfsupcon",
               "supcon_selfsupcon")}}
FILES = {"simclr": "simclr_r50_imagenet", "moco_v1": "mocov1_r50_imagenet",
         "moco_v2": "mocov2_r50_imagenet", "byol": "byol_r50_imagenet",
         "supcon": "supcon_r50_cifar10", "supervised": "supervised_r50_imagenet",
         "moco_v3": "mocov3_r50_imagenet", "clsa": "clsa_single_r50_imagenet",
         "clsa_symmetric": "clsa_single_r50_imagenet",
         **{name: f"{name}_r50_imagenet" for name in (
             "relic", "relicv2", "supcon_queue", "selfsupcon", "ce_selfsupcon",
             "supcon_selfsupcon")}}
# The views of those that have no preset of their own name.
VIEWS = {"supervised": {"preset": "crop_flip"}, "relic": {"preset": "byol"},
         "relicv2": {"large": 2, "small": 1}, "clsa": {"preset": "clsa_single"},
         "clsa_symmetric": {"preset": "clsa_single"},
         **{name: {"preset": "moco_v2"} for name in (
             "supcon_queue", "selfsupcon", "ce_selfsupcon", "supcon_selfsupcon")}}
# Of these, loss and gradients are computed with convolutions and the paper's views, of the others
# with `Bare` and noise, which compiles in a third of the time.
WHOLE = ("simclr", "moco_v1", "moco_v2", "byol", "supcon", "supervised")

# Compiling takes most of a test's time; what runs once need not be compiled well.
QUICK = {"xla_backend_optimization_level": 0}


def settings(method: str, **changes) -> dict:
  """A checked config; `changes` are fields, or `group__field` of a group."""
  from configs import common
  raw = common.get_config()
  raw.batch_size = 16
  common.duration(raw, "total", steps=8)
  raw.method = {"name": method, **OPTIONS.get(method, {})}
  raw.model.update(MODEL)
  raw.views = {"preset": method, "size": 16, **VIEWS.get(method, {})}
  for name, value in changes.items():
    *groups, leaf = name.split("__")
    functools.reduce(lambda owner, group: owner[group], groups, raw)[leaf] = value
  return config.resolve(raw)


@functools.cache
def images() -> data.Source:
  return data.open_source("bundled:fashion_mnist_mini", "train[:200]")


def parts(method: str, **changes) -> build.Parts:
  return build.parts(settings(method, **changes), images())


class Bare(nn.Module):
  """A backbone whose running statistics can be told by heart: those of the pixels."""

  group_size: int | None = None

  @nn.compact
  def __call__(self, images, train):
    x = BatchNorm(self.group_size, name="norm")(images, train)
    return {"features": nn.Dense(12)(nn.relu(nn.Dense(12)(x.reshape(len(x), -1))))}


def noisy(names):
  """Random views of these names: a piece of every image, with noise."""
  def views(key, batch):
    piece = batch["image"][:, 8:14, 8:14].astype(jnp.float32) / 255
    return {name: piece + 0.3 * jax.random.normal(jax.random.fold_in(key, i), piece.shape)
            for i, name in enumerate(names)}
  return views


def bare_parts(method: str) -> build.Parts:
  """`parts` with a network and views that compile soon."""
  made, names = parts(method), tuple(build.training_views(settings(method)["views"]))
  run = Run(Bare(), noisy(names), 16, 8, num_classes=10, view_names=names)
  return made._replace(method=METHODS[method](run, **OPTIONS.get(method, {})))


def host_batch(step: int = 0, size: int = 16, first: int = 0, last: int | None = None) -> dict:
  """Rows `first` to `last` of a global batch of real images."""
  rows = slice(first, last)
  taken = np.arange(step * size, (step + 1) * size, dtype=np.int32)[rows] % len(stored()["label"])
  return {name: values[taken] for name, values in stored().items()} | {"index": taken}


@functools.cache
def stored() -> dict:
  return data.load_all(images(), 28)


def first_state(parts: build.Parts, mesh, **changes):
  return program.first_state({"batch_size": 16, "seed": 0, "init": "", **changes}, parts, mesh)


def disturbed(state):
  """A state in mid-run: the target no longer equals the online network, and the step is not 0.

  The draws depend on no device, so every mesh sees the same state.
  """
  def moved(tree):
    leaves, treedef = jax.tree.flatten(tree)
    random = np.random.default_rng(1)
    return jax.tree.unflatten(treedef, [
        x + np.float32(0.05) * random.standard_normal(x.shape).astype(np.float32) for x in leaves])
  return state._replace(step=state.step + 5, target_params=moved(state.target_params))


@functools.cache
def loss_and_gradients_on(mesh, method: str, first: int = 0, last: int | None = None):
  """The loss and gradients of one step with the method's random views, on a mesh, as numpy.

  Rows `first` to `last` of the batch are what this process brings.
  """
  made = parts(method) if method in WHOLE else bare_parts(method)
  state = disturbed(first_state(made, mesh))
  batch = global_batch(mesh, host_batch(first=first, last=last))

  def compute(state, batch):
    (loss, _), gradients = loss_and_gradients(made.method, state, batch)
    return loss, gradients

  loss, gradients = jax.jit(compute, compiler_options=QUICK)(state, batch)
  return float(loss), jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), gradients)


def largest(tree) -> float:
  return max(np.abs(x).max() for x in jax.tree.leaves(tree))


def norm(gradients) -> float:
  """The length of a tree of numpy arrays, summed in f64."""
  return float(np.sqrt(sum(np.square(x, dtype=np.float64).sum()
                           for x in jax.tree.leaves(gradients))))


def mesh_of(devices: int):
  return make_mesh(jax.devices()[:devices])


def flags(workdir, method: str, *more: str) -> list[str]:
  """The command's arguments for a run like `settings(method)`, on the first 200 images."""
  model = [f"--config.model.{name}={value}" for name, value in MODEL.items()]
  options = [f"--config.method.{name}={value}" for name, value in OPTIONS.get(method, {}).items()]
  return [f"--config=configs/{FILES[method]}.py:small", f"--workdir={workdir}",
          "--config.train_split=train[:200]", "--config.test_split=test[:100]",
          "--config.batch_size=16", "--config.total_steps=8", "--config.views.size=16",
          "--config.log_every_steps=1", "--config.model.norm_group=0", *model, *options, *more]


def command(workdir, method: str, *more: str) -> list[str]:
  return ["-m", "ssl_jax.main", *flags(workdir, method, *more)]


def wait_until(condition, processes, seconds: float = 200) -> None:
  """Waits for a condition that running processes bring about."""
  deadline = time.monotonic() + seconds
  while not condition():
    for process in processes:
      assert process.poll() is None, process.communicate()[1][-3000:]
    assert time.monotonic() < deadline
    time.sleep(0.02)
