"""The built wheel, installed into an environment of its own, is whole: command, configs, images."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PARTS = ("ssl_jax", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE")


def run(*command, **options):
  done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False,
                        **options)
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
  return done.stdout


@pytest.fixture(scope="module")
def ssl_jax(tmp_path_factory):
  """The path of the installed command; packages that it needs are those of this environment."""
  folder = tmp_path_factory.mktemp("wheel")
  source = folder / "source"  # a build leaves files behind
  for part in PARTS:
    if (ROOT / part).is_dir():
      shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    else:
      shutil.copy(ROOT / part, source / part)
  run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source)
  run(sys.executable, "-m", "venv", "--without-pip", folder / "env")
  (wheel,) = folder.glob("*.whl")
  python = folder / "env" / "bin" / "python"
  (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
  run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel)
  (packages / "needed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
  return folder / "env" / "bin" / "ssl-jax"


def test_configs_are_found_by_name_and_a_run_ends_with_results(ssl_jax, tmp_path):
  environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": ""}
  run(ssl_jax, "--config", "quickstart", "--workdir", "run", "--config.total_steps=2",
      "--config.train_split=train[:64]", "--config.batch_size=16", "--config.model.width=0.25",
      "--config.evaluate.final=False",
      cwd=tmp_path, env=environment)
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  assert results["steps"] == 2 and results["data"] == "bundled:fashion_mnist_mini"


def test_the_wheel_holds_every_config(ssl_jax):
  (shipped,) = (ssl_jax.parent.parent / "lib").glob("python*/site-packages/ssl_jax/shipped/configs")
  ours = {p.relative_to(ROOT / "configs") for p in (ROOT / "configs").rglob("*.py")}
  assert {p.relative_to(shipped) for p in shipped.rglob("*.py")} == ours
