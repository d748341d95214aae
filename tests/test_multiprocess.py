"""Two processes of two devices each, over loopback, compute and train what one process does."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import tiny

from ssl_jax.methods import METHODS

HERE = pathlib.Path(__file__).parent


def free_port() -> int:
  with socket.socket() as s:
    s.bind(("localhost", 0))
    return s.getsockname()[1]


@contextlib.contextmanager
def two(*command):
  """A command running as processes 0 and 1, with {port} and {process} filled in."""
  port = free_port()
  running = [subprocess.Popen(
      [sys.executable, *(str(c).format(port=port, process=i) for c in command)],
      cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2 "
                                     "--xla_backend_optimization_level=0"}) for i in (0, 1)]
  try:
    yield running
  finally:
    for process in running:
      process.kill()
      process.communicate()


def outputs(running) -> list[str]:
  """What two processes print until they end, which must be well."""
  found = [process.communicate(timeout=300) for process in running]
  for process, (_, errors) in zip(running, found):
    assert process.returncode == 0, errors[-3000:]
  return [out for out, _ in found]


@pytest.fixture(scope="module")
def found():
  with two(HERE / "worker.py", "{port}", "{process}") as running:
    return [json.loads(out.splitlines()[-1]) for out in outputs(running)]


@pytest.mark.parametrize("method", METHODS)
def test_loss_and_gradients_do_not_depend_on_the_number_of_processes(found, method):
  loss, gradients = tiny.loss_and_gradients_on(tiny.mesh_of(1), method)
  for process in found:
    np.testing.assert_allclose(process[method]["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(process[method]["norm"], tiny.norm(gradients), rtol=1e-5)


def test_the_command_stops_on_a_signal_to_either_process_and_goes_on(tmp_path):
  metrics, steps = tmp_path / "run" / "metrics.jsonl", 60
  command = tiny.command(
      tmp_path / "run", "moco_v2", "--coordinator=localhost:{port}", "--processes=2",
      "--process={process}", f"--config.total_steps={steps}", "--config.eval_every_steps=0",
      "--config.checkpoint_every_steps=1000", "--config.evaluate.final=False")
  with two(*command) as running:
    tiny.wait_until(lambda: metrics.exists() and metrics.read_text().count("\n") > 2, running)
    running[1].send_signal(signal.SIGTERM)
    first, second = outputs(running)
  assert "batch 16 over 4 x cpu" in first and "stopped by a signal after step" in first
  assert "step" not in second  # only the first process speaks
  stopped = len(metrics.read_text().splitlines())
  assert stopped < steps
  with two(*command) as running:
    first, second = outputs(running)
  assert f"at step {stopped} of {steps}" in first and "results:" in first
  rows = [json.loads(line) for line in metrics.read_text().splitlines()]
  assert [row["step"] for row in rows] == list(range(1, steps + 1))
