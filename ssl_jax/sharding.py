"""Meshes, shardings, and global batches from the slices that hosts hold."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ssl_jax.types import Batch


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh with the one axis `data` over `devices` (default: all devices of all processes)."""
  devices = jax.devices() if devices is None else devices
  # Auto axes: under explicit ones `z @ z.T` over a sharded batch is an error of types.
  return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
  """The first axis is divided among the devices."""
  return NamedSharding(mesh, PartitionSpec("data"))


def global_batch(mesh: Mesh, host_batch: Batch) -> Batch:
  """Makes global arrays, divided over `data`, of the slices `[B / processes, ...]` of each host."""
  sharding = over_batch(mesh)
  return {name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
          for name, value in host_batch.items()}


def replicate(mesh: Mesh, tree):
  """Puts the same host arrays on every device of the mesh; every process must hold them all."""
  return jax.tree.map(
      lambda x: jax.make_array_from_process_local_data(replicated(mesh), np.asarray(x)), tree)
