"""ResNet-18 on Fashion-MNIST that lies on the device: images/s, and its probes after some minutes.

    python -m benchmarks.fashion [--minutes 5] [--method simclr] [--small] [--json FILE]

Runs the main command twice: for some steps, to learn the speed, then for as many as fit into the
minutes. Images/s is the median over the rows of metrics.jsonl after the first, so it is that of the
whole loop, host included. The full set is used where Debian's files or a prepared copy can be read
without the network (`ssl_jax.data.fashion_mnist`); else the 10,000 bundled images.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import timing

FULL, BUNDLED = "tfds:fashion_mnist", "bundled:fashion_mnist_mini"


def data_here() -> str:
  """The full set where it can be opened on this machine without the network, else the bundled."""
  from ssl_jax.data import fashion_mnist

  prepared = os.environ.get("TFDS_DATA_DIR") or pathlib.Path.home() / "tensorflow_datasets"
  found = (pathlib.Path(prepared) / "fashion_mnist").exists() or any(
      (folder / "train-images-idx3-ubyte.gz").exists() for folder in fashion_mnist.folders())
  return FULL if found else BUNDLED


def command(config: str, workdir: pathlib.Path, **fields) -> list[str]:
  """The main command, with fields of the config that are not the file's."""
  return [sys.executable, "-m", "ssl_jax.main", f"--config={config}", f"--workdir={workdir}",
          *(f"--config.{name}={value}" for name, value in fields.items())]


def images_per_second(workdir: pathlib.Path) -> float:
  """The median over the rows of a run; the first holds the compilation and does not count."""
  rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  speeds = [row["images_per_second"] for row in rows if "images_per_second" in row]
  return statistics.median(speeds[1:] or speeds)


def measure(minutes: float, method: str, data: str, small: bool, folder: pathlib.Path) -> dict:
  """The figures of the longer run."""
  config = "configs/fashion_r18.py:" + ("small" if small else method)
  every, tried = (1, 3) if small else (20, 200)
  fields = {"data": data, "log_every_steps": every}
  short = command(config, folder / "short", **fields, total_steps=tried,
                  **{"evaluate.final": False, "eval_every_percent": 0.0})
  subprocess.run(short, check=True)
  speed = images_per_second(folder / "short")
  chosen = json.loads((folder / "short" / "config.json").read_text())
  steps = tried if small else max(int(60 * minutes * speed / chosen["batch_size"]), tried)
  start = time.perf_counter()
  long = command(config, folder / "long", **(fields | {"log_every_steps": every * 5}),
                 total_steps=steps, **{"evaluate.baselines": False, "eval_every_percent": 0.0})
  subprocess.run(long, check=True)
  seconds = time.perf_counter() - start
  results = json.loads((folder / "long" / "results.json").read_text())
  return {"data": data, "method": results["method"], "steps": steps,
          "images_seen": steps * chosen["batch_size"], "command": " ".join(long[1:]),
          "seconds": seconds, "images_per_second": images_per_second(folder / "long"),
          "machine": results["devices"], "cpu": timing.processor(), "versions": results["versions"],
          **{name: results[name]["top1"] for name in ("linear", "knn", "few_label")}}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--minutes", type=float, default=5.0, help="of training in the longer run")
  parser.add_argument("--method", default="simclr", help="a method of configs/fashion.py")
  parser.add_argument("--data", help="a data spec; the full set by default, where it is")
  parser.add_argument("--small", action="store_true", help="a few steps, for a test on a CPU")
  parser.add_argument("--json", help="file to write the figures to")
  arguments = parser.parse_args()
  folder = pathlib.Path(tempfile.mkdtemp(prefix="fashion_"))
  try:
    figures = measure(arguments.minutes, arguments.method,
                      arguments.data or (BUNDLED if arguments.small else data_here()),
                      arguments.small, folder)
  finally:
    shutil.rmtree(folder)
  names = ("images_per_second", "linear", "knn", "few_label", "images_seen", "seconds")
  print(f"{figures['method']} on {figures['data']}, {figures['machine']}")
  print(timing.table(list(names), [[figures[name] for name in names]]))
  timing.write(arguments.json, {"part": "fashion", **figures})


if __name__ == "__main__":
  main()
