"""What a contrastive loss and its gradient cost against the batch size: milliseconds and memory.

    python -m benchmarks.losses [--small] [--json FILE]     the dense form and the one in blocks
    python -m benchmarks.losses --pairs 65536               one value and gradient in blocks, timed

Embeddings of width 128 in f32; MoCo's queue holds 65,536. `memory` is what the compiler sets aside
for intermediate results, beside arguments and results. With `--pairs N`, NT-Xent has N embeddings
(N / 2 images) and InfoNCE N queries against a queue of N: N x N similarities each.
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks import timing
from ssl_jax.losses import blockwise, contrastive

WIDTH = 128
BATCHES = (256, 512, 1024, 2048, 4096, 8192, 16384)
QUEUE = 65536
FORMS = {"dense": contrastive, "blocks": blockwise}


def cases(losses, batch: int, queue: int) -> dict[str, tuple[Callable, tuple[jax.Array, ...]]]:
  """Loss of a form -> (its function of embeddings, these); the first one is differentiated."""
  a, b = jax.random.normal(jax.random.key(0), (2, batch, WIDTH))
  stored = jax.random.normal(jax.random.key(1), (queue, WIDTH))
  stored = stored / jnp.linalg.norm(stored, axis=-1, keepdims=True)
  labels = jax.random.randint(jax.random.key(2), (batch,), 0, 1000)

  def supcon(a, b):
    return losses.supervised_contrastive(jnp.stack([a, b], axis=1), labels, 0.1, 0.07)

  return {"nt_xent": (lambda a, b: losses.nt_xent(a, b, 0.1), (a, b)),
          "info_nce": (lambda a, b, queue: losses.info_nce(a, b, queue, 0.2), (a, b, stored)),
          "supervised_contrastive": (supcon, (a, b))}


def cost(function: Callable, arguments: tuple[jax.Array, ...], seconds: float
         ) -> tuple[float | None, float | None]:
  """Milliseconds of value and gradient, and MiB of temporaries; None where it does not fit."""
  try:
    compiled = jax.jit(jax.value_and_grad(function)).lower(*arguments).compile()
    memory = compiled.memory_analysis()
    mebibytes = memory.temp_size_in_bytes / 2**20 if memory else None
    ms = timing.median_ms(lambda: compiled(*arguments), jax.block_until_ready, seconds=seconds)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return None, None
  return ms, mebibytes


def measure(small: bool = False) -> list[dict]:
  """A row for each loss and batch size."""
  batches, queue, seconds = ((32, 64), 128, 0.02) if small else (BATCHES, QUEUE, 0.5)
  rows = []
  for batch in batches:
    for form, losses in FORMS.items():
      for name, (function, arguments) in cases(losses, batch, queue).items():
        ms, mebibytes = cost(function, arguments, seconds)
        rows.append({"loss": name, "form": form, "batch": batch, "ms": ms,
                     "memory_mib": mebibytes})
        if ms is None:
          print(f"{name} ({form}) at batch {batch}: does not fit into the device's memory",
                flush=True)
  return rows


def once(pairs: int) -> list[dict]:
  """One value and gradient of NT-Xent and InfoNCE in blocks, with `pairs`^2 similarities."""
  rows = []
  for name, batch in (("nt_xent", pairs // 2), ("info_nce", pairs)):
    function, arguments = cases(blockwise, batch, pairs)[name]
    compiled = jax.jit(jax.value_and_grad(function)).lower(*arguments).compile()
    start, busy = time.perf_counter(), time.process_time()
    value, _ = jax.block_until_ready(compiled(*arguments))
    rows.append({"loss": name, "form": "blocks", "batch": batch, "value": float(value),
                 "ms": 1e3 * (time.perf_counter() - start),
                 "processor_s": time.process_time() - busy,
                 "memory_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20})
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--small", action="store_true", help="sizes for a test on a CPU")
  parser.add_argument("--json", help="file to write the figures to")
  parser.add_argument("--pairs", type=int, help="compare that many embeddings with as many, once")
  arguments = parser.parse_args()
  rows = once(arguments.pairs) if arguments.pairs else measure(arguments.small)
  print(timing.table(["loss", "form", "batch", "ms", "processor s", "memory MiB"],
                     [[row.get(k) for k in ("loss", "form", "batch", "ms", "processor_s",
                                            "memory_mib")]
                      for row in sorted(rows, key=lambda row: row["loss"])]))
  timing.write(arguments.json, {"part": "losses", **timing.machine(), "rows": rows})


if __name__ == "__main__":
  main()
