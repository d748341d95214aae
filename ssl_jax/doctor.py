"""`python -m ssl_jax.doctor`: is this machine ready, how fast is it, what mends what is wrong."""

import argparse
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from packaging.requirements import Requirement
from packaging.version import Version
from rich.console import Console
from rich.text import Text

GIB = 2**30
COLOURS = {"ok": "green", "note": "yellow", "wrong": "red"}

# Asks for the devices in a process of its own: a driver that hangs must not hang the doctor.
DEVICES = """
import json, jax
found = jax.devices()
stats = found[0].memory_stats() or {}
print(json.dumps({"platform": found[0].platform, "kind": found[0].device_kind,
                  "count": len(found), "memory": stats.get("bytes_limit", 0)}))
"""


class Finding(NamedTuple):
  """One line of the report.

  Attributes:
    state: "ok", "note" or "wrong".
    text: What was found.
    way_out: The command or step that mends it, or "".
  """

  state: str
  text: str
  way_out: str = ""


def packages(requirements: list[str], installed: Callable[[str], str]) -> Iterator[Finding]:
  """Whether what is installed is what this package asks for.

  Args:
    requirements: As in package metadata; those of extras are not looked at.
    installed: Name -> version; raises PackageNotFoundError.
  """
  wrong = 0
  needs = [Requirement(line) for line in requirements]
  needs = [n for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})]
  for need in needs:
    try:
      version = installed(need.name)
    except importlib.metadata.PackageNotFoundError:
      wrong += 1
      yield Finding("wrong", f"{need.name} is not installed", f"pip install '{need}'")
      continue
    if Version(version) not in need.specifier:
      wrong += 1
      yield Finding("wrong", f"{need.name} is {version}, needed is {need.specifier}",
                    f"pip install '{need}'")
  if not wrong:
    yield Finding("ok", f"all {len(needs)} packages are there in versions that fit")


def pair(jax: str, jaxlib: str) -> Finding:
  """Whether jaxlib is of jax's version; a jaxlib may be older within jax's own limits."""
  if Version(jaxlib) > Version(jax):
    return Finding("wrong", f"jaxlib {jaxlib} is newer than jax {jax}",
                   f"pip install 'jax=={jax}' 'jaxlib=={jax}'")
  return Finding("ok", f"jax {jax}, jaxlib {jaxlib}")


def devices(found: dict | None, error: str, nvidia: bool, tpu: bool) -> Iterator[Finding]:
  """What JAX sees, against what the machine seems to have.

  Args:
    found: What `DEVICES` prints, or None if it failed.
    error: Why it failed.
    nvidia: Whether an NVIDIA driver is there.
    tpu: Whether TPU chips are.
  """
  if found is None:
    yield Finding("wrong", f"JAX finds no device: {error}",
                  "JAX_PLATFORMS=cpu uses the processor; is another process holding the device?")
    return
  memory = f", {found['memory'] / GIB:.0f} GiB each" if found["memory"] else ""
  yield Finding("ok", f"{found['count']} x {found['kind']} ({found['platform']}){memory}")
  if found["platform"] == "cpu" and nvidia:
    yield Finding("wrong", "an NVIDIA driver is here, and JAX does not use it",
                  "pip install -e '.[cuda13]' (driver 580 or newer), and unset JAX_PLATFORMS")
  if found["platform"] == "cpu" and tpu:
    yield Finding("wrong", "TPU chips are here, and JAX does not use them",
                  "pip install -e '.[tpu]', and unset JAX_PLATFORMS")


def ask_for_devices(seconds: float = 90) -> tuple[dict | None, str]:
  """What JAX sees, asked in another process: (the answer or None, the last line of its error)."""
  try:
    done = subprocess.run([sys.executable, "-c", DEVICES], capture_output=True, text=True,
                          timeout=seconds, check=False)
  except subprocess.TimeoutExpired:
    return None, f"no answer in {seconds:.0f} s"
  if done.returncode:
    return None, (done.stderr.strip().splitlines() or ["no message"])[-1]
  return json.loads(done.stdout.strip().splitlines()[-1]), ""


def room() -> Iterator[Finding]:
  """Memory of the host and room on the disk."""
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  yield Finding("ok" if memory >= 4 * GIB else "note",
                f"{os.cpu_count()} cores, {memory / GIB:.0f} GiB of memory",
                "" if memory >= 4 * GIB else "make --config.batch_size smaller")
  free = shutil.disk_usage(".").free
  yield Finding("ok" if free >= 5 * GIB else "note", f"{free / GIB:.0f} GiB free on this disk",
                "" if free >= 5 * GIB else "name a --workdir on a larger disk")


def data_sets() -> Iterator[Finding]:
  """The sets that need no download, and whether they are here."""
  from etils import epath

  from ssl_jax.data.fashion_mnist import DEBIAN
  from ssl_jax.data.tfds_source import default_data_dir, find_prepared
  from ssl_jax.errors import UserError

  yield Finding("ok", "bundled:fashion_mnist_mini, 12,000 images inside the package")
  ways = {"fashion_mnist": "it is prepared when first used" if os.path.isdir(DEBIAN) else
          "apt-get install dataset-fashion-mnist, or any use with a network",
          "composed": "python -m ssl_jax.data.composed --out " + default_data_dir(),
          "imagenet2012": "put the archives below ~/tensorflow_datasets/downloads/manual and "
          "prepare it with tfds, file_format='array_record'"}
  for name, way in ways.items():
    try:
      prepared = find_prepared(name, epath.Path(default_data_dir()))
    except UserError as error:
      yield Finding("wrong", f"tfds:{name}: {error}")
      continue
    yield Finding("ok", f"tfds:{name} is in {prepared}") if prepared else Finding(
        "note", f"tfds:{name} is not here", way)


def speed() -> Iterator[Finding]:
  """About ten seconds: matrix products on the device, JPEG decoding on the host."""
  import jax
  import jax.numpy as jnp
  from PIL import Image

  from ssl_jax.data import to_canvas

  on_cpu = jax.devices()[0].platform == "cpu"
  side = 1024 if on_cpu else 8192
  a = jnp.ones((side, side), jnp.float32 if on_cpu else jnp.bfloat16)
  product = jax.jit(lambda a: a @ a)
  rate = _rate(lambda: product(a).block_until_ready(), seconds=3)
  yield Finding("ok", f"matrix products: {2 * side**3 * rate / 1e12:.2f} TFLOP/s "
                      f"({a.dtype.name}) on {jax.devices()[0].device_kind}")
  noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
  encoded = io.BytesIO()
  Image.fromarray(noise).resize((400, 300), Image.Resampling.BICUBIC).save(encoded, "JPEG")
  rate = _rate(lambda: to_canvas(encoded.getvalue(), 256), seconds=2)
  yield Finding("ok", f"decoding 400 x 300 JPEG to 256 pixels: {rate:,.0f} images/s on one core, "
                      f"so about {rate * (os.cpu_count() or 1):,.0f} on this host")


def _rate(call: Callable[[], object], seconds: float) -> float:
  call()
  start, count = time.perf_counter(), 0
  while time.perf_counter() < start + seconds:
    call()
    count += 1
  return count / (time.perf_counter() - start)


def examine(with_speed: bool) -> Iterator[Finding]:
  """All findings, cheap ones first."""
  from ssl_jax import __version__
  yield Finding("ok", f"ssl_jax {__version__}, Python {platform.python_version()}, "
                      f"{platform.system()} {platform.machine()}")
  yield from packages(importlib.metadata.requires("ssl_jax") or [], importlib.metadata.version)
  yield pair(importlib.metadata.version("jax"), importlib.metadata.version("jaxlib"))
  yield from room()
  found, error = ask_for_devices()
  yield from devices(found, error, shutil.which("nvidia-smi") is not None,
                     bool(list(pathlib.Path("/dev").glob("accel*"))))
  yield from data_sets()
  if with_speed and found is not None:
    yield from speed()


def main() -> None:
  """Prints the findings; exit status 1 if anything is wrong."""
  parser = argparse.ArgumentParser(prog="python -m ssl_jax.doctor", description=__doc__)
  parser.add_argument("--no_speed", action="store_true", help="leave out the speed check")
  arguments = parser.parse_args()
  console = Console(highlight=False, soft_wrap=True)
  wrong = 0
  for finding in examine(not arguments.no_speed):
    wrong += finding.state == "wrong"
    console.print(Text(f"{finding.state:5}", COLOURS[finding.state]), Text(finding.text))
    if finding.way_out:
      console.print(Text(f"      -> {finding.way_out}"))
  console.print("next: python -m ssl_jax.main --config configs/quickstart.py" if not wrong else
                f"{wrong} thing(s) to mend")
  sys.exit(1 if wrong else 0)


if __name__ == "__main__":
  main()
