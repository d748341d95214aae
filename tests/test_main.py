"""The command: what it does with good input, and the one line that bad input gets."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny
from PIL import Image

ROOT = pathlib.Path(tiny.__file__).parent.parent


def refuse(run, *words: str) -> None:
  """`run` ends with status 2 and one line on stderr that holds the words, whatever their case."""
  status, _, errors = run
  assert status == 2, errors[-2000:]
  assert errors.startswith("error: ") and errors.count("\n") == 1, errors
  for word in words:
    assert word in errors, errors


def contents(folder):
  return sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*"))


@pytest.fixture
def refused(command, tmp_path):
  """Checks that a tiny run with more flags is refused, and that nothing is written."""
  def check(*flags, words, method="simclr", workdir=None):
    before = contents(tmp_path)
    refuse(command(*tiny.flags(workdir or tmp_path / "run", method, *flags)), *words)
    assert contents(tmp_path) == before
  return check


@pytest.fixture(scope="session")
def trained(command, tmp_path_factory):
  """A workdir with a finished run of eight steps, and what the command printed."""
  workdir = tmp_path_factory.mktemp("runs") / "simclr"
  status, out, errors = command(*tiny.flags(
      workdir, "simclr", "--config.eval_every_steps=4", "--config.evaluate.few_draws=2"))
  assert status == 0, errors
  return workdir, out


# Good input.


def test_a_run_leaves_what_is_promised(trained):
  workdir, out = trained
  rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  losses = [row for row in rows if "loss" in row]
  assert [row["step"] for row in losses] == list(range(1, 9))
  assert all(np.isfinite(row["loss"]) and row["skipped"] == 0 for row in losses)
  assert [row["step"] for row in rows if "knn_top1" in row] == [4]
  assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
  assert json.loads((workdir / "config.json").read_text())["total_steps"] == 8
  assert {p.name for p in (workdir / "checkpoints").iterdir()} == {"4", "8"}
  assert f"results: {workdir}/results.json" in out
  assert f"--config configs/eval/linear.py --config.init={workdir}" in out


def test_results_hold_percentages_beside_the_baselines(trained):
  results = json.loads((trained[0] / "results.json").read_text())
  for row in (results, results["baselines"]["random_init"], results["baselines"]["pixels"]):
    for task in ("linear", "knn", "few_label"):
      assert 5 < row[task]["top1"] <= 100
  # 200 images' pixels: far above the chance of 10 %.
  assert results["baselines"]["pixels"]["linear"]["top1"] > 50
  assert (results["seed"], results["steps"], results["method"]) == (0, 8, "simclr")
  assert results["versions"].keys() >= {"jax", "ssl_jax"} and len(results["config_hash"]) == 12


def test_the_same_command_on_a_finished_run_changes_no_parameter(trained, command):
  workdir, _ = trained
  before = contents(workdir / "checkpoints")
  rows = (workdir / "metrics.jsonl").read_text()
  status, out, _ = command(*tiny.flags(
      workdir, "simclr", "--config.eval_every_steps=4", "--config.evaluate.few_draws=2"))
  assert status == 0 and "at step 8 of 8" in out
  assert contents(workdir / "checkpoints") == before
  assert (workdir / "metrics.jsonl").read_text() == rows


def test_a_frozen_encoder_is_judged_by_a_config(trained, command, tmp_path):
  status, _, errors = command(
      "--config=configs/eval/knn.py", f"--config.init={trained[0]}", "--config.k=(5,)",
      f"--workdir={tmp_path / 'knn'}")
  assert status == 0, errors
  results = json.loads((tmp_path / "knn" / "results.json").read_text())
  at_the_end = json.loads((trained[0] / "results.json").read_text())
  assert 5 < results["knn_5"]["top1"] <= 100
  assert results["init"] == str(trained[0]) and results["step"] == 8
  assert at_the_end["knn"]["top1"] == pytest.approx(results["knn_5"]["top1"], abs=15)


def test_a_dry_run_says_the_cost_and_writes_nothing(command, tmp_path):
  status, out, _ = command(*tiny.flags(tmp_path / "run", "byol", "--dry_run"))
  assert status == 0
  for word in ("parameters", "GFLOP per device", "MiB of activations", "batch 16 over 8 x cpu"):
    assert word in out
  assert not list(tmp_path.iterdir())


def write_images(folder, count, classes=()):
  random = np.random.default_rng(0)
  for i in range(count):
    place = folder / classes[i % len(classes)] if classes else folder
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(0, 256, (20, 24, 3), np.uint8)).save(place / f"{i}.png")
  return folder


def test_a_folder_without_labels_trains_and_finishes_with_a_trace(command, tmp_path):
  images = write_images(tmp_path / "images", 40)
  status, _, errors = command(*tiny.flags(
      tmp_path / "run", "simclr", f"--config.data=folder:{images}", "--config.train_split=train",
      "--config.total_steps=20", "--config.profile=True", "--config.tensorboard=False",
      "--config.log_every_steps=20", "--config.checkpoint_every_percent=100"))
  assert status == 0, errors
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  assert "linear" not in results and results["steps"] == 20
  assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
  (row,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  assert "online_accuracy" not in row and "loss" in row
  assert not (tmp_path / "run" / "tensorboard").exists()


# Bad input: the file, the flags, the fields.


def test_no_config_and_an_unknown_file(command):
  refuse(command(), "--config", "configs/quickstart.py")
  refuse(command("--config=configs/quikstart.py"), "configs/quikstart.py", "no such file",
         "did you mean 'quickstart'?")


def test_an_unknown_argument_of_a_config(command):
  refuse(command("--config=configs/simclr_r50_imagenet.py:tiny"), "'tiny'", ":small")


def test_an_unknown_flag(refused):
  refused("--worker=3", words=("worker",))


def test_a_word_that_belongs_to_no_flag(refused):
  refused("train", words=("'train'", "--config.key=value"))


@pytest.mark.parametrize(("flag", "words"), [
    ("--config.batchsize=32", ("batchsize", "batch_size")),
    ("--config.schedule.base_rate=1", ("base_rate", "base_lr")),
    ("--config.batch_size=many", ("batch_size", "many")),
    ("--config.batch_size=-16", ("config.batch_size is -16",)),
    ("--config.batch_size=0", ("config.batch_size is 0",)),
    ("--config.seed=-1", ("config.seed is -1", "negative")),
    ("--config.total_steps=0", ("0 steps", "--config.total_steps=N")),
    ("--config.total_steps=-5", ("total_steps=-5", "negative")),
    ("--config.total_epochs=0.01", ("total_steps=8 and total_epochs=0.01",)),
    ("--config.log_every_steps=0", ("config.log_every_steps is 0", "above 0")),
    ("--config.keep=0", ("config.keep is 0", "above 0")),
    ("--config.schedule.warmup_steps=9", ("warm-up of 9 steps", "8 steps", "shorten")),
    ("--config.schedule.warmup_steps=-1", ("warmup_steps=-1", "negative")),
    ("--config.schedule.name=cosin", ("'cosin'", "'cosine'")),
    ("--config.schedule.scaling=liner", ("'liner'", "'linear'")),
    ("--config.schedule.base_lr=-1", ("config.schedule.base_lr is -1",)),
    ("--config.eval_every_steps=-1", ("eval_every_steps=-1", "negative")),
    ("--config.resident=maybe", ("config.resident is 'maybe'", "yes")),
    ("--config.method.name=simcrl", ("'simcrl'", "'simclr'")),
    ("--config.method.temprature=1", ("temprature", "temperature")),
    ("--config.method.temperature=-1", ("config.method.temperature is -1",)),
    ("--config.method.temperature=warm", ("temperature", "warm")),
    ("--config.views.preset=simclr_v3", ("'simclr_v3'", "'simclr_v1'")),
    ("--config.views.size=0", ("config.views.size is 0", "above 0")),
    ("--config.views.size=-28", ("config.views.size is -28",)),
    ("--config.optimizer.name=lars", ("'lars'", "'lars_simclr'")),
    ("--config.optimizer.weight_decay=heavy", ("weight_decay", "heavy")),
    ("--config.model.name=resnet51", ("'resnet51'", "'resnet50'")),
    ("--config.model.stem=stridden", ("'stridden'", "'strided'")),
    ("--config.model.dtype=float31", ("'float31'", "'float32'")),
    ("--config.model.norm_group=3", ("groups of 3", "divides the batch")),
    ("--config.evaluate.knn_k=0", ("config.evaluate.knn_k is 0",)),
    ("--config.evaluate.batch_size=0", ("config.evaluate.batch_size is 0",)),
    ("--config.data=bundled:fashion_mnist", ("fashion_mnist", "fashion_mnist_mini")),
    ("--config.data=fashion_mnist_mini", ("'fashion_mnist_mini'", "bundled:")),
    ("--config.train_split=trian", ("'trian'", "train")),
    ("--config.test_split=validation", ("'validation'", "test")),
    ("--config.batch_size=20", ("config.batch_size is 20", "8 devices", "use 16")),
    ("--config.batch_size=256", ("200 images", "256", "smaller")),
    ("--config.data=folder:/no/such/folder", ("/no/such/folder", "no such folder")),
    ("--config.init=/no/such/run", ("/no/such/run", "no checkpoint", "name the workdir")),
])
def test_a_wrong_value_is_named_with_the_way_out(refused, flag, words):
  refused(flag, words=words)


def test_an_option_that_the_named_part_does_not_have(command, tmp_path):
  config = tmp_path / "mine.py"
  for group, option in (("method", "tau"), ("optimizer", "beta"), ("views", "zoom"),
                        ("model", "deepness")):
    config.write_text(
        "from configs import quickstart\n\n\ndef get_config():\n"
        "  config = quickstart.get_config()\n"
        f"  config.{group}.{option} = 1\n  return config\n")
    refuse(command(f"--config={config}", f"--workdir={tmp_path / 'run'}"), option)
  assert list(tmp_path.glob("*")) == [config] or not (tmp_path / "run").exists()


def test_a_config_that_raises(command, tmp_path):
  config = tmp_path / "mine.py"
  config.write_text("def get_config():\n  return 1 / 0\n")
  refuse(command(f"--config={config}"), "division by zero")


# Bad input: the data.


def test_an_empty_folder(refused, tmp_path):
  (tmp_path / "empty").mkdir()
  refused(f"--config.data=folder:{tmp_path / 'empty'}", "--config.train_split=train",
          words=("holds no image", "png"))


@pytest.mark.parametrize("method", ["supcon", "supervised"])
def test_labels_that_a_method_needs(refused, tmp_path, method):
  images = write_images(tmp_path / "images", 20)
  refused(f"--config.data=folder:{images}", "--config.train_split=train", method=method,
          words=(method, "needs labels", "one folder per class"))


# Bad input: the workdir and checkpoints.


def test_a_workdir_that_is_a_file(refused, tmp_path):
  (tmp_path / "run").write_text("mine")
  refused(words=(str(tmp_path / "run"), "is a file"))


def test_a_workdir_of_something_else(refused, tmp_path):
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "thesis.tex").write_text("mine")
  refused(words=(str(tmp_path / "run"), "not empty", "new folder"))


def test_a_damaged_config_json(refused, tmp_path):
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.json").write_text('{"task": "pretr')
  refused(words=("config.json", "damaged", "--workdir"))


def test_a_workdir_of_another_config_or_method(trained, command):
  workdir, _ = trained
  before = contents(workdir)
  same = ("--config.eval_every_steps=4", "--config.evaluate.few_draws=2")
  refuse(command(*tiny.flags(workdir, "simclr", *same, "--config.schedule.base_lr=0.7")),
         str(workdir), "config.schedule", "0.7", "another --workdir")
  refuse(command(*tiny.flags(workdir, "byol", *same)), str(workdir), "another --workdir")
  assert contents(workdir) == before


def test_an_encoder_of_another_architecture(trained, refused):
  refused(f"--config.init={trained[0]}", "--config.model.stem_width=12",
          words=(str(trained[0]), "tensors of the encoder match", "set config.model"))


def test_an_evaluation_of_nothing(command, tmp_path):
  refuse(command("--config=configs/eval/knn.py"), "config.init is empty", "--config.init=WORKDIR")
  refuse(command("--config=configs/eval/linear.py", f"--config.init={tmp_path}"),
         str(tmp_path), "no checkpoint")
  assert not list(tmp_path.iterdir())


def test_a_run_whose_last_checkpoint_is_cut(command, tmp_path, trained):
  workdir = tmp_path / "run"
  subprocess.run(["cp", "-r", str(trained[0]), str(workdir)], check=True)
  for path in (workdir / "checkpoints" / "8" / "state").rglob("*"):
    if path.is_file() and path.stat().st_size > 64:
      path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
  before = contents(workdir / "checkpoints")
  refuse(command(*tiny.flags(workdir, "simclr", "--config.eval_every_steps=4",
                             "--config.evaluate.few_draws=2")),
         str(workdir / "checkpoints" / "8"), "cannot be read", "delete that folder")
  assert contents(workdir / "checkpoints") == before
  assert (workdir / "metrics.jsonl").read_text() == (trained[0] / "metrics.jsonl").read_text()


# The command as a user types it.


@pytest.mark.parametrize(("flags", "words"), [
    (["--config=configs/quikstart.py"], ("no such file",)),
    (["--config=configs/quickstart.py", "--config.data=folder:/no/such"], ("no such folder",)),
    (["--config=configs/quickstart.py", "--config.model.name=resnet9"], ("'resnet9'",)),
])
def test_the_real_command_ends_with_status_two(flags, words, tmp_path):
  done = subprocess.run(
      [sys.executable, "-m", "ssl_jax.main", *flags, f"--workdir={tmp_path / 'run'}"], cwd=ROOT,
      capture_output=True, text=True, timeout=300)
  refuse((done.returncode, done.stdout, done.stderr), *words)
  assert not list(tmp_path.iterdir())


def test_a_run_that_started_from_an_encoder_goes_on_without_it(trained, command, tmp_path):
  origin = tmp_path / "origin"
  shutil.copytree(trained[0], origin)
  flags = tiny.flags(tmp_path / "run", "simclr", f"--config.init={origin}",
                     "--config.evaluate.final=False")
  status, out, errors = command(*flags)
  assert status == 0, errors
  shutil.rmtree(origin)
  status, out, errors = command(*flags)
  assert status == 0, errors
  assert "resumed" in out
