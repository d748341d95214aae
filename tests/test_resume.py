"""A run that is stopped or killed goes on to the last bit as if nothing had happened."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny

ROOT = pathlib.Path(__file__).parent.parent
STEPS = 24
RUN = (f"--config.total_steps={STEPS}", "--config.eval_every_steps=0",
       "--config.evaluate.final=False", "--config.tensorboard=False")
TIMING = {"images_per_second", "data_wait_percent"}


def start(workdir, method, *more):
  return subprocess.Popen(
      [sys.executable, *tiny.command(workdir, method, *RUN, *more)], cwd=ROOT,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"})


def complete(workdir, method, *more) -> str:
  process = start(workdir, method, *more)
  out, errors = process.communicate(timeout=300)
  assert process.returncode == 0, errors[-3000:]
  return out


def rows(workdir):
  found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return [{k: v for k, v in row.items() if k not in TIMING} for row in found]


def final(workdir):
  with ocp.StandardCheckpointer() as reader:
    return reader.restore((workdir / "checkpoints" / str(STEPS) / "state").absolute())


def assert_same_run(workdir, reference):
  assert rows(workdir) == rows(reference)
  assert [row["step"] for row in rows(workdir)] == list(range(1, STEPS + 1))
  a, b = final(workdir), final(reference)
  assert a.keys() == b.keys()
  for name in a:
    tiny.jax.tree.map(np.testing.assert_array_equal, a[name], b[name])


def count_rows(workdir) -> int:
  path = workdir / "metrics.jsonl"
  return path.read_text().count("\n") if path.exists() else 0


def saved(workdir) -> list[int]:
  folder = workdir / "checkpoints"
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) \
      if folder.exists() else []


@pytest.mark.parametrize(("method", "resident"), [("moco_v2", "yes"), ("byol", "no")])
def test_sigterm_saves_and_the_same_command_goes_on_exactly(method, resident, tmp_path):
  whole, parted = tmp_path / "whole", tmp_path / "parted"
  once = ("--config.checkpoint_every_steps=1000", f"--config.resident={resident}")
  process = start(parted, method, *once)
  tiny.wait_until(lambda: count_rows(parted) >= 3, [process])
  process.send_signal(signal.SIGTERM)
  out, errors = process.communicate(timeout=300)
  assert process.returncode == 0, errors[-3000:]
  (stopped,) = saved(parted)
  assert 3 <= stopped < STEPS and f"stopped by a signal after step {stopped}" in out
  out = complete(parted, method, *once)
  assert f"resumed {parted} at step {stopped}" in out
  complete(whole, method)  # the images live where "auto" puts them
  assert_same_run(parted, whole)


def test_kill_at_any_moment_loses_at_most_what_followed_the_last_save(tmp_path):
  whole, parted = tmp_path / "whole", tmp_path / "parted"
  every = "--config.checkpoint_every_steps=2"
  checkpoints = parted / "checkpoints"
  moments = [
      lambda: checkpoints.exists() and any("tmp" in p.name for p in checkpoints.iterdir()),
      lambda: len(saved(parted)) > 1 and any("tmp" in p.name for p in checkpoints.iterdir()),
      lambda: count_rows(parted) > 10,
  ]
  chance = random.Random(0)
  for moment in moments:
    process, before = start(parted, "simclr", every), saved(parted)
    tiny.wait_until(moment, [process])
    time.sleep(chance.uniform(0, 0.03))
    process.kill()
    process.communicate()
    # A save that had begun may be lost, an earlier one never is.
    assert max(saved(parted), default=0) >= max(before, default=0)
    assert max(saved(parted), default=0) >= count_rows(parted) - 2 * 2 - 1
  out = complete(parted, "simclr", every)
  assert f"resumed {parted} at step" in out
  assert not any("tmp" in p.name for p in checkpoints.iterdir())
  complete(whole, "simclr", every)
  assert_same_run(parted, whole)
