"""A run starts from, and a task judges, an encoder that others have published."""

import json

import jax
import numpy as np
import pytest
import tiny
import torch
from fabricated_checkpoints import CHECKPOINTS

from ssl_jax import convert, program
from ssl_jax.checkpoint import load_encoder
from ssl_jax.errors import UserError


@pytest.fixture(scope="module")
def supcon(tmp_path_factory):
  """A file of SupContrast's, of a ResNet of two thin blocks."""
  path = tmp_path_factory.mktemp("supcon") / "last.pth"
  torch.save(CHECKPOINTS["supcon"](blocks=(1, 1))[0], path)
  return path


def flags(method, workdir, init):
  """Two steps from an encoder, with its own network."""
  return [flag for flag in tiny.flags(
      workdir, method, "--config.total_steps=2", "--config.evaluate.final=False",
      "--config.batch_size=8", "--config.schedule.base_lr=1e-4", f"--config.init={init}")
          if not flag.startswith("--config.model.")] + ["--config.model.name=init"]


def test_another_method_goes_on_from_a_published_file(supcon, command, tmp_path):
  status, out, errors = command(*flags("simclr", tmp_path, supcon))
  assert status == 0, errors
  assert "supcon (SupContrast): 30 of 30 tensors, left out: head" in out
  saved, began = load_encoder(str(tmp_path)), convert.load(supcon)
  assert saved.meta["model"] | began.meta["model"] == saved.meta["model"]
  # Two small steps have moved the weights a little.
  far = jax.tree.map(lambda a, b: np.abs(a - b).max() / np.abs(b).max(), saved.variables["params"],
                     began.variables["params"])
  assert 0 < max(jax.tree.leaves(far)) < 0.05
  # The run would go on without the file.
  asked = tiny.settings("simclr") | {"model": {"name": "init"}, "init": "gone.pth"}
  assert program.own_model(asked, str(tmp_path))["model"] == saved.meta["model"]


def test_a_task_judges_a_published_file_on_named_images(supcon, command, tmp_path):
  args = ("--config=configs/eval/knn.py", f"--config.init={supcon}", "--config.batch_size=16",
          "--config.k=(5,)")
  status, _, errors = command(*args)
  assert status == 2 and "does not tell on which images" in errors
  status, out, errors = command(
      *args, f"--workdir={tmp_path / 'knn'}", "--config.data=bundled:fashion_mnist_mini",
      "--config.train_split=train[:60]", "--config.test_split=test[:20]")
  assert status == 0, errors
  assert "30 of 30 tensors" in out
  assert 0 <= json.loads((tmp_path / "knn" / "results.json").read_text())["knn_5"]["top1"] <= 100


def test_weights_that_fit_a_network_which_computes_something_else_are_refused():
  theirs, ours = {"name": "resnet18", "padding": "same"}, {"name": "resnet18"}
  with pytest.raises(UserError, match=r"padding 'same' and config.model 'torch'.*model.name=init"):
    program.check_same_network(theirs, ours, "byol.pkl")
  program.check_same_network(ours | {"zero_init_last": True, "norm_group": 4}, ours, "fine")


def test_a_network_of_no_encoder_is_refused(tmp_path):
  config = tiny.settings("simclr") | {"model": {"name": "init"}, "init": ""}
  with pytest.raises(UserError, match="names no encoder"):
    program.own_model(config, str(tmp_path))
