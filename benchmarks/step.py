"""The ResNet-50 SimCLR step at 224 pixels in bf16: images/s, shares of its floors, and PyTorch.

    python -m benchmarks.step [--batch 256] [--torch_python PYTHON] [--small] [--json FILE]

The step is the one that `configs/simclr_r50_imagenet.py` trains with, on random images that lie on
the device as uint8: both views of every image are made inside of it. `no views` is given finished
views instead, which is what the PyTorch step does; `views` makes them and nothing else. An image
counts once, though two views of it pass through the network.

The floors: operations over the measured rate of a bf16 matrix product, and bytes over the measured
bandwidth of a copy, both as XLA counts them. The larger of the two is what no program of the same
operations and fusions beats; `share` is that floor over the time that was measured.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import ceilings, timing
from configs import simclr_r50_imagenet
from ssl_jax import build, config, program
from ssl_jax.data.records import ArrayRecords
from ssl_jax.data.source import Skipped, Source
from ssl_jax.sharding import make_mesh
from ssl_jax.step import init_state, train_step

IMAGENET = 1281167
STORED = 1024  # images on the device, of which every step takes others


def settings(batch: int, small: bool) -> dict:
  """The checked config of the step."""
  made = simclr_r50_imagenet.get_config("small" if small else "")
  made.batch_size = batch
  if small:
    made.views.update({"size": 16, "strength": 0.0, "blur": 0.0})
    made.model.update({"blocks": (1,), "widths": (4,), "strides": (2,), "stem_width": 4})
  return config.resolve(made)


def synthetic(canvas: int) -> Source:
  """As many images as ImageNet has, all the same and none in memory: what a run is planned on."""
  image = np.broadcast_to(np.zeros((), np.uint8), (IMAGENET, canvas, canvas, 3))
  records = ArrayRecords(image, np.broadcast_to(np.int32(0), IMAGENET), "synthetic")
  return Source("synthetic", "train", records, tuple(map(str, range(1000))), (canvas, canvas),
                "synthetic", Skipped("synthetic", IMAGENET, 0))


def random_store(canvas: int, count: int) -> dict[str, jax.Array]:
  """Random images as a run keeps them on the device."""
  key = jax.random.key(0)
  return {"image": jax.random.randint(key, (count, canvas, canvas, 3), 0, 256, jnp.uint8),
          "size": jnp.full((count, 2), canvas, jnp.int32),
          "label": jax.random.randint(key, (count,), 0, 1000)}


def counted(lowered, compiled) -> dict[str, float]:
  """Operations and bytes of one call. A library call may hide its operations from the count after
  compilation, so the larger of both counts is taken; bytes are those after fusion."""
  before, after = lowered.cost_analysis() or {}, compiled.cost_analysis() or {}
  return {"gflop": max(before.get("flops", 0.0), after.get("flops", 0.0)) / 1e9,
          "gbyte": after.get("bytes accessed", 0.0) / 1e9,
          "temporary_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20}


def repeated(compiled, state, *arguments):
  """A call that goes on from the state it left, which is donated."""
  held = [state]

  def call():
    held[0], metrics = compiled(held[0], *arguments)
    return metrics["loss"]
  return call


def row(name: str, batch: int, ms: float, counts: dict[str, float], limits: dict[str, float]
        ) -> dict:
  """A row of the table with its floors."""
  floors = {"floor_compute_ms": counts["gflop"] / limits["bf16_matmul_tflops"],
            "floor_memory_ms": 1e3 * counts["gbyte"] / limits["copy_gbs"]}
  return {"name": name, "ms": ms, "images_per_second": 1e3 * batch / ms, **counts, **floors,
          "share_percent": 100 * max(floors.values()) / ms}


def measure(batch: int, small: bool = False) -> tuple[list[dict], dict[str, float]]:
  """The rows of the JAX programs, and the ceilings they are compared with."""
  chosen, seconds = settings(batch, small), 0.05 if small else 3.0
  limits = ceilings.measure(small)
  canvas = 18 if small else 256
  parts = build.parts(chosen, synthetic(canvas))
  store = random_store(canvas, max(batch, 32 if small else STORED))
  indices = jnp.arange(batch, dtype=jnp.int32)
  stored = {name: value[indices] for name, value in store.items()} | {"index": indices}
  mesh = make_mesh(jax.devices()[:1])
  rows = []

  def add(name, lowered, call_of):
    compiled = lowered.compile()
    ms = timing.median_ms(call_of(compiled), jax.block_until_ready, seconds=seconds, group=3)
    rows.append(row(name, batch, ms, counted(lowered, compiled), limits))
    print(f"{name}: {ms:.2f} ms", flush=True)

  state = program.first_state(chosen, parts, mesh)
  add("step", program.make_step(parts, mesh).lower(state, {"index": indices}, store),
      lambda compiled: repeated(compiled, state, {"index": indices}, store))

  key = jax.random.key(1)
  make_views = jax.jit(parts.method.views)
  add("views", make_views.lower(key, stored), lambda compiled: lambda: compiled(key, stored))

  finished = stored | {f"view_{name}": view for name, view in make_views(key, stored).items()}
  given = parts.method._replace(views=lambda key, batch: {
      name: batch[f"view_{name}"] for name in ("a", "b")})
  state = jax.jit(lambda key: init_state(given, parts.optimizer, finished, key, parts.monitor))(key)
  bare = jax.jit(train_step(given, parts.optimizer, parts.monitor), donate_argnums=0)
  add("no views", bare.lower(state, finished),
      lambda compiled: repeated(compiled, state, finished))
  return rows, limits


def torch_rows(python: str, batch: int, small: bool) -> list[dict]:
  """The rows of `benchmarks.torch_step`, in a process of its own; none where there is no torch."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "torch.json"
    command = [python, "-m", "benchmarks.torch_step", f"--batch={batch}", f"--json={path}"]
    done = subprocess.run(command + ["--small"] * small, check=False)
    if done.returncode:
      print(f"PyTorch was not measured: `{' '.join(command)}` failed", flush=True)
      return []
    figures = json.loads(path.read_text())
  return [r | {"torch": figures["torch"]} for r in figures["rows"]]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--batch", type=int, help="images in a step; 256, or 8 with --small")
  parser.add_argument("--torch_python", default=sys.executable,
                      help="a Python that has PyTorch; '' leaves it out")
  parser.add_argument("--small", action="store_true", help="sizes for a test on a CPU")
  parser.add_argument("--json", help="file to write the figures to")
  arguments = parser.parse_args()
  batch = arguments.batch or (8 if arguments.small else 256)
  # First, while nothing else holds the device's memory: jax would have taken most of it.
  rivals = torch_rows(arguments.torch_python, batch, arguments.small) if (
      arguments.torch_python) else []
  rows, limits = measure(batch, arguments.small)
  names = ("name", "ms", "images_per_second", "floor_compute_ms", "floor_memory_ms",
           "share_percent", "temporary_mib")
  print(f"batch {batch}; copy {limits['copy_gbs']:.0f} GB/s, bf16 matrix product "
        f"{limits['bf16_matmul_tflops']:.1f} TFLOP/s")
  print(timing.table(list(names), [[r.get(k) for k in names] for r in rows + rivals]))
  by_name = {r["name"]: r["ms"] for r in rows}
  print(f"views are {100 * by_name['views'] / by_name['step']:.1f} % of the step")
  if rivals:
    best = min(rivals, key=lambda r: r["ms"])
    print(f"no views / {best['name']}: {by_name['no views'] / best['ms']:.2f} of its time")
  timing.write(arguments.json, {"part": "step", **timing.machine(), "batch": batch,
                                "ceilings": limits, "rows": rows, "torch_rows": rivals})


if __name__ == "__main__":
  main()
