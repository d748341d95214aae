"""Eight CPU devices, set before jax is imported, and one compilation cache for all runs."""

import contextlib
import io
import os
import pathlib
import sys

import pytest

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(pathlib.Path(__file__).parent.parent / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


@pytest.fixture(scope="session")
def command():
  """`command(*flags) -> (status, stdout, stderr)`: the command line, without a new process."""
  from absl.testing import flagsaver

  from ssl_jax import main

  def run(*flags):
    out, errors = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["ssl_jax.main", *flags]
    try:
      with (flagsaver.flagsaver(), contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(errors)):
        main.main()
      status = 0
    except SystemExit as ending:
      status = ending.code or 0
    finally:
      sys.argv = argv
    return status, out.getvalue(), errors.getvalue()

  return run
