"""The training step of a config compiled for a slice that is not there, in a process of its own.

    python -m ssl_jax.plan.program < REQUEST.json > ANSWER.json

The TPU compiler takes a lock, speaks much and may abort: the process that plans starts this one,
which writes one JSON object. JAX_PLATFORMS must be cpu in it; only the compiler is TPU's.
"""

import json
import math
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from ssl_jax import build, data, program
from ssl_jax.data import Source, splits
from ssl_jax.errors import UserError
from ssl_jax.plan.chips import find_slice
from ssl_jax.plan.hlo import collectives
from ssl_jax.sharding import make_mesh, of_state, over_batch
from ssl_jax.step import init_state

# Images and classes of sets that a plan need not have on disk: data -> split -> images.
KNOWN = {
    "tfds:imagenet2012": ({"train": 1281167, "validation": 50000}, 1000, None),
    "tfds:cifar10": ({"train": 50000, "test": 10000}, 10, (32, 32)),
    "tfds:cifar100": ({"train": 50000, "test": 10000}, 100, (32, 32)),
}


def source_of(config: Mapping[str, Any]) -> Source:
  """The images of a config: by their number where that is known, else opened."""
  if config["data"] not in KNOWN:
    return build.open_split(config, "train_split")
  sizes, classes, shape = KNOWN[config["data"]]
  split, count = config["train_split"], 0
  for part in splits.parse(split):
    splits.check_exists(part.name, list(sizes), config["data"])
    count += len(range(*part.bounds(sizes[part.name])))
  return Source(config["data"], split, range(count), tuple(map(str, range(classes))), shape,
                fingerprint="planned", skipped=data.Skipped(config["data"], count, 10))


def compiled_for(config: Mapping[str, Any], mesh: Mesh, options: dict | None = None):
  """The step of a config compiled for a mesh, the shapes of its state, its parts and its images."""
  source = source_of(config)
  parts = build.parts(config, source)
  batch = program.batch_shapes(config["batch_size"], parts.canvas, parts.masked)
  state = jax.eval_shape(
      lambda key: init_state(parts.method, parts.optimizer, batch, key, parts.monitor),
      jax.random.key(0))

  def placed(x, sharding):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
  state = jax.tree.map(placed, state, of_state(mesh, state))
  batch = jax.tree.map(lambda x: placed(x, over_batch(mesh)), batch)
  traced = program.make_step(parts, mesh).trace(state, batch, {})
  platform = mesh.devices.flat[0].platform
  return traced.lower(lowering_platforms=(platform,)).compile(options), state, parts, source


def figures(config: Mapping[str, Any], mesh: Mesh, options: dict | None = None) -> dict[str, Any]:
  """What a compiled step takes of a device, in bytes, operations and collectives.

  Args:
    config: Checked.
    mesh: Over devices that are there or not.
    options: For the compiler.
  """
  compiled, state, parts, source = compiled_for(config, mesh, options)
  memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
  text = compiled.as_text()
  return {
      "total_steps": parts.total_steps, "images": len(source), "canvas": parts.canvas,
      "parameters": held(state.params), "statistics": held((state.stats, state.target_stats)),
      "target": held(state.target_params), "optimizer": held(state.opt_state),
      "memory_bank": held(state.memory), "monitor": held(state.monitor),
      "arguments": memory.argument_size_in_bytes, "temporaries": memory.temp_size_in_bytes,
      "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
      "code": memory.generated_code_size_in_bytes,
      "flops": cost["flops"], "bytes": cost["bytes accessed"],
      "collectives": [c._asdict() for c in collectives(text, mesh.size)]}


def held(tree) -> int:
  """Bytes of a tree of shapes on one device."""
  return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
             for x in jax.tree.leaves(tree))


def slice_mesh(name: str, fsdp: int) -> Mesh:
  """The mesh over all devices of a slice that the TPU compiler knows."""
  from jax.experimental import topologies

  wanted = find_slice(name)
  options = {"chip_config_name": wanted.chip.config}
  if wanted.chips < 4:  # a machine that holds fewer than the usual 2 x 2
    options["chips_per_host_bounds"] = (*wanted.shape, *(1,) * (3 - len(wanted.shape)))
  return make_mesh(topologies.get_topology_desc(
      platform="tpu", topology_name=wanted.topology, **options).devices, fsdp)


def main() -> None:
  """Reads {"config", "slice"}; writes {"figures": ..}, {"too_large": bytes} or {"error": line}."""
  answer, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
  request = json.load(sys.stdin)
  try:
    config = request["config"]
    mesh = slice_mesh(request["slice"], config["mesh"]["fsdp"])
    found = {"figures": figures(config, mesh)}
  except UserError as error:
    found = {"error": str(error)}
  except jax.errors.JaxRuntimeError as error:
    used = re.search(r"Used ([\d.]+)([KMG]) of [\d.]+[KMG] hbm", str(error))
    found = {"error": " ".join(str(error).split())[:300]}
    if used:
      scale = {"K": 2**10, "M": 2**20, "G": 2**30}[used.group(2)]
      found = {"too_large": round(float(used.group(1)) * scale)}
  with answer:
    json.dump(found, answer)


if __name__ == "__main__":
  main()
