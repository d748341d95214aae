"""Convolutions and small networks: XLA's own derivatives against those of models/conv.py.

  python -m benchmarks.convolution [--batch 512] [--part layers|networks] [--json FILE]

Each cell is the best wall time of a jitted call in milliseconds and, in brackets, the process's CPU
time divided by the number of cores: what it would take on an idle machine that shares the work
perfectly. `lax` is jax.lax.conv_general_dilated with jax's own derivative. On an accelerator both
are the same program.
"""

import argparse
import json
import os
import time
from unittest import mock

import jax
import jax.numpy as jnp

from ssl_jax.models import conv, make_backbone

# pixels, channels in, channels out, kernel, stride
LAYERS = (
    (28, 3, 16, 3, 1), (28, 16, 16, 3, 1), (14, 32, 32, 3, 1), (7, 64, 64, 3, 1),
    (4, 128, 128, 3, 1), (28, 3, 32, 3, 2), (28, 16, 32, 3, 2), (14, 32, 64, 3, 2),
    (28, 16, 16, 1, 1), (14, 64, 64, 1, 1), (14, 32, 64, 1, 2), (7, 64, 256, 1, 1))

# name, options of make_backbone
NETWORKS = (
    ("resnet8", dict(stem="strided")),
    ("resnet8", dict(stem="strided", width=1.5)),
    ("resnet14", dict(stem="strided")),
    ("resnet8", dict(stem="strided", width=2)),
    ("resnet8", dict(stem="small")),
    ("resnet14", dict(stem="strided", width=2)),
    ("resnet8", dict(stem="strided", width=3)),
)


def timed(function, *args, repeats: int = 7) -> dict:
  """The best of `repeats` calls, in milliseconds: {"wall": .., "cpu": .., "compile": seconds}."""
  start = time.perf_counter()
  compiled = jax.jit(function).lower(*args).compile()
  compilation = time.perf_counter() - start
  jax.block_until_ready(compiled(*args))
  wall, cpu = [], []
  for _ in range(repeats):
    start, process = time.perf_counter(), time.process_time()
    jax.block_until_ready(compiled(*args))
    wall.append(time.perf_counter() - start)
    cpu.append(time.process_time() - process)
  return {"wall": 1e3 * min(wall), "cpu": 1e3 * min(cpu) / os.cpu_count(), "compile": compilation}


def layers(batch: int):
  """One row for each layer: forward, and both derivatives in both forms."""
  keys = jax.random.split(jax.random.key(0), 3)
  for size, channels, outputs, k, stride in LAYERS:
    padding = conv.symmetric_padding((size, size), k, stride)
    x = jax.random.normal(keys[0], (batch, size, size, channels))
    kernel = jax.random.normal(keys[1], (k, k, channels, outputs))
    row = {"layer": f"{size}px {channels}->{outputs} {k}x{k} /{stride}"}
    for form, function in (("lax", conv.lax_conv), ("ours", conv.conv)):
      def run(x, kernel, function=function, stride=stride, padding=padding):
        return function(x, kernel, stride, padding)
      dy = jax.random.normal(keys[2], jax.eval_shape(run, x, kernel).shape)
      row[f"{form} forward"] = timed(run, x, kernel)
      row[f"{form} by image"] = timed(
          lambda x, kernel, dy, run=run: jax.vjp(lambda x: run(x, kernel), x)[1](dy), x, kernel, dy)
      row[f"{form} by kernel"] = timed(
          lambda x, kernel, dy, run=run: jax.vjp(
              lambda kernel: run(x, kernel), kernel)[1](dy), x, kernel, dy)
    yield row


def networks(batch: int):
  """One row for each network: the forward pass and a step's forward and backward, at 28 px."""
  images = jax.random.normal(jax.random.key(0), (batch, 28, 28, 3))
  for name, options in NETWORKS:
    module = make_backbone(name, **options)
    variables = jax.jit(lambda key, module=module: module.init(key, images[:2], False))(
        jax.random.key(1))
    params = variables.pop("params")

    def loss(params, images, module=module, variables=variables):
      outputs, new = module.apply(
          {"params": params, **variables}, images, True, mutable=["batch_stats"])
      return jnp.square(outputs["features"]).mean(), new

    row = {"network": " ".join([name, *(f"{k}={v}" for k, v in options.items())]),
           "thousand parameters": sum(p.size for p in jax.tree.leaves(params)) / 1e3,
           "forward": timed(loss, params, images)}
    row["step"] = timed(jax.grad(loss, has_aux=True), params, images)
    with mock.patch.object(conv, "conv", conv.lax_conv):
      row["step with lax"] = timed(jax.grad(
          lambda params, images, loss=loss: loss(params, images), has_aux=True), params, images)
    yield row


def show(row: dict) -> str:
  """A row of a table, in fixed columns."""
  def cell(value):
    if isinstance(value, dict):
      value = f"{value['wall']:.1f} ({value['cpu']:.1f})"
    return value if isinstance(value, str) else f"{value:.0f}"
  first, *rest = (cell(v) for v in row.values())
  return f"{first:34s}" + "".join(f"{v:>20s}" for v in rest)


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--batch", type=int, default=512)
  parser.add_argument("--part", choices=("layers", "networks"))
  parser.add_argument("--json")
  args = parser.parse_args()
  print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {os.cpu_count()} cores, "
        f"batch {args.batch}, milliseconds: wall (CPU time / cores)", flush=True)
  rows = []
  for part in (layers, networks):
    if args.part in (None, part.__name__):
      for i, row in enumerate(part(args.batch)):
        if i == 0:
          print(show(dict(zip(row, row))))
        print(show(row), flush=True)
        rows.append(row)
  if args.json:
    with open(args.json, "w") as file:
      json.dump(rows, file, indent=1)


if __name__ == "__main__":
  main()
