"""What reading a checkpoint of others costs: seconds and memory for the file of a ResNet-50.

    python -m benchmarks.convert [--json FILE]

Random weights, in PyTorch's formats (zip, and the one before 1.6), safetensors, npz, ONNX and a
pickle as Detectron2 has it. Each file is read in a process of its own, whose memory is looked at
before and at its highest: `peak` is the growth over the size of the file, what is mapped of the
file itself included. Linux only.
"""

import argparse
import json
import multiprocessing
import pathlib
import tempfile
import time

import numpy as np

from benchmarks import timing
from ssl_jax import convert
from ssl_jax.convert import dialects, encoder, saving, structure

LIMIT_SECONDS, LIMIT_PEAK = 2.0, 2.0  # what a ResNet-50 may take


def random_encoder() -> encoder.Encoder:
  """A ResNet-50 of random numbers."""
  random = np.random.default_rng(0)
  arrays = {name: random.standard_normal(shape, np.float32) ** 2
            for name, shape in structure.shapes({"name": "resnet50"}).items()}
  return encoder.Encoder(encoder.variables_of(arrays), {
      "model": {"name": "resnet50"}, "preprocessing": {}, "method": "", "step": 0, "config": {}})


def write_legacy(path: pathlib.Path, state: dict[str, np.ndarray]) -> None:
  """The format before PyTorch 1.6, by PyTorch itself."""
  import torch

  torch.save({name: torch.from_numpy(array) for name, array in state.items()}, path,
             _use_new_zipfile_serialization=False)


def mebibytes(what: str) -> float:
  """VmRSS or VmHWM of this process: the memory that it holds, or the most it has held."""
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith(what):
      return int(line.split()[1]) / 1024
  raise RuntimeError(f"no {what} in /proc/self/status")


def read(path: str, result) -> None:
  """Reads a file; sends seconds, and by how many MiB the process grew at its highest."""
  pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
  before, start = mebibytes("VmRSS"), time.perf_counter()
  convert.load(path)
  result.send((time.perf_counter() - start, mebibytes("VmHWM") - before))


def measure(path: pathlib.Path) -> dict[str, float]:
  """Seconds and peak of a file, in a new process; the least of three times."""
  context, seconds, peaks = multiprocessing.get_context("spawn"), [], []
  for _ in range(3):
    ours, theirs = context.Pipe(False)
    process = context.Process(target=read, args=(str(path), theirs))
    process.start()
    second, growth = ours.recv()
    process.join()
    seconds.append(second)
    peaks.append(growth)
  size = path.stat().st_size / 2**20
  return {"mib": round(size, 1), "seconds": round(min(seconds), 2),
          "peak_over_file": round(max(peaks) / size, 2)}


def main() -> None:
  """Prints a table and writes it as JSON."""
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument("--json", metavar="FILE")
  arguments = flags.parse_args()
  made, rows = random_encoder(), {}
  with tempfile.TemporaryDirectory() as folder:
    for name, end in (("torchvision", "pth"), ("safetensors", "safetensors"), ("npz", "npz"),
                      ("onnx", "onnx"), ("detectron2", "pkl")):
      path = pathlib.Path(folder) / f"{name}.{end}"
      saving.save(made, name, path)
      rows[name] = measure(path)
    path = pathlib.Path(folder) / "legacy.pth"
    write_legacy(path, saving.state_dict(made, dialects.torchvision))
    rows["torch before 1.6"] = measure(path)
  print(timing.table(["file", "MiB", "seconds", "peak / file"],
                     [[name, *row.values()] for name, row in rows.items()]))
  timing.write(arguments.json, {"rows": rows, "limits": [LIMIT_SECONDS, LIMIT_PEAK],
                                **timing.machine()})
  print(json.dumps(timing.machine()))


if __name__ == "__main__":
  main()
