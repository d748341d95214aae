"""How well each saliency estimator finds the true masks of a set, and how fast.

    python -m benchmarks.saliency --data tfds:composed/96px --data_dir DIR [--split test]
        [--images 300] [--size S] [--weights FILE.npz] [--json FILE]

The records of the set must have a "mask". Speed is in images for each second that one core works,
so that other work on the machine does not count; of one thread, on images that are decoded already.
The first image of each estimator is not timed.
"""

import argparse
import os
import sys
import time

# One thread, as each process of `python -m ssl_jax.saliency` has; set before numpy is imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"):
  os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

from benchmarks import timing  # noqa: E402
from ssl_jax.data.decoding import decode  # noqa: E402
from ssl_jax.data.source import SPECS, Source, open_source, sample  # noqa: E402
from ssl_jax.errors import UserError  # noqa: E402
from ssl_jax.saliency import METHODS, estimate_with  # noqa: E402
from ssl_jax.saliency.measures import summary  # noqa: E402


def load(source: Source) -> list[tuple[np.ndarray, np.ndarray]]:
  """The images u8[H,W,3] of a source with their true masks bool[H,W]."""
  pairs = []
  for index in range(len(source)):
    record = source.records[index]
    if "mask" not in record:
      raise UserError(f"{source.spec} has no masks; compose a set that has: "
                      "python -m ssl_jax.data.composed")
    mask = decode(record["mask"])[..., 0] > 127
    if mask.any():
      pairs.append((decode(record["image"]), mask))
  return pairs


def evaluate(pairs, estimator, size: int | None) -> dict[str, float]:
  """{"max_f", "adaptive_f", "mae", "images_per_s"} of an estimator."""
  estimate_with(estimator, pairs[0][0], size)
  start = time.process_time()
  maps = [estimate_with(estimator, image, size) for image, _ in pairs]
  seconds = time.process_time() - start
  return summary((found, mask) for found, (_, mask) in zip(maps, pairs, strict=True)) | {
      "images_per_s": len(pairs) / seconds}


def measure(source: Source, *, size: int | None = None,
            weights: str | None = None) -> dict[str, dict[str, float]]:
  """The figures of all estimators by name."""
  pairs = load(source)
  estimators = dict(METHODS)
  if weights:
    from ssl_jax.saliency import learned
    estimators["learned"] = learned.load(weights)
  return {name: evaluate(pairs, found, size) for name, found in estimators.items()}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--data", required=True, help=SPECS)
  parser.add_argument("--data_dir", help="where tfds sets lie")
  parser.add_argument("--split", default="test")
  parser.add_argument("--images", type=int, default=300, help="at most so many, drawn with seed 0")
  parser.add_argument("--size", type=int, help="longer side worked at")
  parser.add_argument("--weights", help="a learned estimator, to be measured too")
  parser.add_argument("--json", help="file to write the figures to")
  arguments = parser.parse_args()
  try:
    source = sample(open_source(arguments.data, arguments.split, data_dir=arguments.data_dir),
                    arguments.images, seed=0)
    found = measure(source, size=arguments.size, weights=arguments.weights)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
  print(timing.table(
      ["estimator", "max F", "adaptive F", "MAE", "images/s/core"],
      [[name, *row.values()] for name, row in found.items()]))
  timing.write(arguments.json, {
      "part": "saliency", **timing.machine(), "data": source.fingerprint, "size": arguments.size,
      "estimators": found})


if __name__ == "__main__":
  main()
