"""The doctor finds what is wrong with a machine, and says what mends it."""

import importlib.metadata
import subprocess
import sys

import pytest

from ssl_jax import doctor

SEEN = {"platform": "cpu", "kind": "cpu", "count": 1, "memory": 0}


def version(name: str) -> str:
  known = {"numpy": "1.26.0", "flax": "0.12.5", "jax": "0.10.2"}
  if name not in known:
    raise importlib.metadata.PackageNotFoundError(name)
  return known[name]


def states(findings) -> list[str]:
  return [finding.state for finding in findings]


def test_packages_that_are_missing_or_old_are_named_with_the_command_that_mends_them():
  found = list(doctor.packages(
      ["numpy>=2.0", "flax>=0.12", "grain>=0.2", 'torch>=2; extra == "dev"'], version))
  assert states(found) == ["wrong", "wrong"]
  assert found[0].text == "numpy is 1.26.0, needed is >=2.0"
  assert found[0].way_out == "pip install 'numpy>=2.0'"
  assert found[1].text == "grain is not installed"
  assert states(doctor.packages(["flax>=0.12"], version)) == ["ok"]


@pytest.mark.parametrize(("jax", "jaxlib", "state"), [
    ("0.10.2", "0.10.2", "ok"), ("0.10.2", "0.10.1", "ok"), ("0.10.1", "0.10.2", "wrong")])
def test_a_jaxlib_newer_than_jax_is_wrong(jax, jaxlib, state):
  assert doctor.pair(jax, jaxlib).state == state


def test_a_device_that_jax_does_not_use_is_wrong():
  assert states(doctor.devices(SEEN, "", nvidia=False, tpu=False)) == ["ok"]
  gpu = list(doctor.devices(SEEN, "", nvidia=True, tpu=False))
  assert states(gpu) == ["ok", "wrong"] and "[cuda13]" in gpu[1].way_out
  tpu = list(doctor.devices(SEEN, "", nvidia=False, tpu=True))
  assert states(tpu) == ["ok", "wrong"] and "[tpu]" in tpu[1].way_out
  used = SEEN | {"platform": "gpu", "kind": "NVIDIA H200", "memory": 140 * doctor.GIB}
  assert [f.text for f in doctor.devices(used, "", nvidia=True, tpu=False)] == [
      "1 x NVIDIA H200 (gpu), 140 GiB each"]
  assert states(doctor.devices(None, "no answer", nvidia=True, tpu=False)) == ["wrong"]


def test_a_driver_that_does_not_answer_is_waited_for_only_so_long():
  assert doctor.ask_for_devices(seconds=0.01) == (None, "no answer in 0 s")


def test_the_command_ends_well_on_this_machine_and_keeps_brackets():
  done = subprocess.run([sys.executable, "-m", "ssl_jax.doctor", "--no_speed"],
                        capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stdout + done.stderr
  assert "x cpu (cpu)" in done.stdout and "bundled:fashion_mnist_mini" in done.stdout
