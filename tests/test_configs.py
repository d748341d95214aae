"""Every file of configs/, with every argument it documents, builds and traces at full size."""

import functools
import importlib
import inspect
import pathlib
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from configs import composed, dilo_r50_imagenet, relicv2_r50_imagenet, simclrv2_imagenet
from ssl_jax import build, config, describe, program
from ssl_jax.data import Source
from ssl_jax.data.source import Skipped
from ssl_jax.evaluate.probe import RECIPES
from ssl_jax.methods import METHODS
from ssl_jax.step import init_state, train_step
from ssl_jax.types import TrainState

ROOT = pathlib.Path(tiny.__file__).parent.parent
FILES = sorted(p for p in (ROOT / "configs").rglob("*.py")
               if p.name not in ("common.py", "__init__.py"))


def documented(path) -> list[str]:
  """The arguments for which a file's docstring shows a command, "" among them."""
  return sorted(set(re.findall(rf"--config configs/\S*{path.stem}\.py(?::(\w+))?",
                               path.read_text())))


def load(path, argument=""):
  module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
  return module.get_config(*([argument] if argument else []))


def case(path, argument):
  return pytest.param(path, argument, id=f"{path.stem}:{argument}")


# Arguments that a docstring lists without a command.
LISTED = {"byol_r50_imagenet": ("40", "100", "1000"),
          "composed": (*composed.ROWS, "relicv2"),
          "dilo_r50_imagenet": dilo_r50_imagenet.HOSTS,
          "relicv2_r50_imagenet": relicv2_r50_imagenet.NETWORKS,
          "simclrv2_imagenet": simclrv2_imagenet.NETWORKS, "mocov3_r50_imagenet": ("100", "1000"),
          "fashion": METHODS, "fashion_r18": METHODS, "linear": RECIPES}
SHOWN = [case(path, argument) for path in FILES for argument in documented(path)]
CASES = SHOWN + [case(path, argument) for path in FILES for argument in LISTED.get(path.stem, ())
                 if argument not in documented(path)]
# What my_images leaves open depends on the images: tests/test_choose.py has it.
PRETRAINING = [c for c in SHOWN if c.values[0].parent.name == "configs"
               and c.values[0].stem != "my_images"]
SIZES = {"tfds:fashion_mnist": (60000, 10, (28, 28)),
         "tfds:imagenet2012": (1281167, 1000, None), "tfds:cifar10": (50000, 10, (32, 32)),
         "tfds:composed/48px": (10000, 11, (48, 48)),
         "bundled:fashion_mnist_mini": (10000, 10, (28, 28))}


def stub(spec: str) -> Source:
  """A set of the right size of which nobody reads an image."""
  count, classes, shape = SIZES[spec]
  return Source(spec, "train", range(count), tuple(map(str, range(classes))), shape,
                fingerprint=spec, skipped=Skipped(spec, count, 10))


def resolved(path, argument):
  loaded = load(path, argument)
  if loaded.task != "pretrain":
    loaded.init = "a/run"
  return config.resolve(loaded)


@pytest.mark.parametrize(("path", "argument"), CASES)
def test_a_config_is_valid(path, argument):
  assert resolved(path, argument)["task"] in config.SCHEMAS


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_docstring_shows_the_command_and_its_small_variant(path):
  shown = documented(path)
  assert shown
  assert ("small" in shown) == ("variant(" in path.read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_an_unknown_argument_is_refused(path):
  get_config = inspect.signature(
      importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)).get_config)
  if get_config.parameters:
    with pytest.raises(ValueError, match="'enormous' is not known"):
      load(path, "enormous")


class Built(NamedTuple):
  settings: dict
  source: Source
  parts: build.Parts
  state: TrainState  # shapes


@functools.cache
def built(path, argument) -> Built:
  settings = resolved(path, argument)
  source = stub(settings["data"])
  parts = build.parts(settings, source)
  shapes = program.batch_shapes(settings["batch_size"], parts.canvas, parts.masked)
  return Built(settings, source, parts, jax.eval_shape(lambda key: init_state(
      parts.method, parts.optimizer, shapes, key, parts.monitor), jax.random.key(0)))


@pytest.mark.parametrize(("path", "argument"), PRETRAINING)
def test_a_config_traces(path, argument):
  settings, _, parts, state = built(path, argument)
  after, metrics = jax.eval_shape(
      train_step(parts.method, parts.optimizer, parts.monitor), state,
      program.batch_shapes(settings["batch_size"], parts.canvas, parts.masked))
  jax.tree.map(lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)),
               state, after)
  assert {"loss", "gradient_norm", "skipped", "feature_std"} <= metrics.keys()
  assert all(m.shape == () for m in metrics.values())


# The papers' peak learning rates after scaling, negatives per anchor, and steps:
# epochs * images // batch. ResNet-50 without a classifier has 23,508,032 parameters.
EXPECTED = {
    "simclr_r50_imagenet": ("learning rate 4.8 ", "8,190 negatives", "312,784 steps"),
    "byol_r50_imagenet": ("learning rate 3.2 ", None, "312,784 steps"),
    "mocov1_r50_imagenet": ("learning rate 0.03 ", "65,536 negatives", "1,000,911 steps"),
    "mocov2_r50_imagenet": ("learning rate 0.03 ", "65,536 negatives", "1,000,911 steps"),
    "clsa_single_r50_imagenet": ("learning rate 0.03 ", "65,791 negatives", "1,000,911 steps"),
    "clsa_multi_r50_imagenet": ("learning rate 0.03 ", "65,791 negatives", "1,000,911 steps"),
    "dilo_r50_imagenet": ("moco_v2, dilo", "65,536 negatives", "1,000,911 steps"),
    "mocov3_r50_imagenet": ("learning rate 4.8 ", "4,095 negatives", "312,784 steps"),
    "relic_r50_imagenet": ("learning rate 3.2 ", "4,095 negatives", "312,784 steps"),
    "relicv2_r50_imagenet": ("learning rate 4.8 ", "10 negatives", "312,784 steps"),
    "simclrv2_imagenet": ("learning rate 6.4 ", "8,190 negatives", "250,227 steps"),
    "ce_r50_imagenet": ("learning rate 0.48 ", None, "333,637 steps"),
    **{f"{name}_r50_imagenet": ("learning rate 0.48 ", "64,000 negatives", "333,637 steps")
       for name in ("supcon_queue", "selfsupcon", "ce_selfsupcon", "supcon_selfsupcon")},
    "supcon_r50_cifar10": ("learning rate 0.5 ", "2,046 negatives", "48,828 steps"),
    "supervised_r50_imagenet": ("learning rate 0.1 ", None, "450,410 steps"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_lines_at_the_start_say_what_the_paper_says(name):
  rate, negatives, steps = EXPECTED[name]
  settings, source, parts, state = built(ROOT / "configs" / f"{name}.py", "")
  text = "\n".join(describe.start(settings, parts, tiny.mesh_of(8), source, False, state))
  assert rate in text and steps in text and "over 8 x cpu" in text
  assert (negatives in text) if negatives else ("negatives" not in text)
  assert f"{len(source):,} images" in text
  if settings["data"] == "tfds:imagenet2012":
    assert "23,508,032 parameters" in text


def test_the_rate_of_mocov1_falls_at_the_papers_epochs():
  rate = built(ROOT / "configs" / "mocov1_r50_imagenet.py", "").parts.learning_rate
  epoch = 1281167 / 256
  np.testing.assert_allclose(
      [rate(jnp.int32(e * epoch)) for e in (0, 119, 121, 159, 161, 199)],
      [0.03, 0.03, 0.003, 0.003, 0.0003, 0.0003], rtol=1e-5)


def test_the_schema_has_the_fields_of_the_common_config():
  def compare(given, schema, path=""):
    assert set(given) == set(schema), path
    for name, kind in schema.items():
      if isinstance(kind, dict):
        compare(given[name], kind, f"{path}.{name}")
  compare(config.resolve(load(ROOT / "configs" / "common.py")), config.PRETRAIN)
  for task, schema in (("linear", config.LINEAR), ("knn", config.KNN)):
    compare(resolved(ROOT / "configs" / "eval" / f"{task}.py", ""), schema)
