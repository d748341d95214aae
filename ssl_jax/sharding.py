"""Meshes, shardings, and global batches from the slices that hosts hold."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ssl_jax.errors import UserError
from ssl_jax.types import Batch, TrainState

LEAST_SHARDED = 2**16  # numbers; to gather a smaller array costs more time than it saves memory


def make_mesh(devices: Sequence[jax.Device] | None = None, fsdp: int = 1) -> Mesh:
  """A mesh over `devices` (default: all devices of all processes), over which the batch is divided.

  Args:
    devices: Their order is that of the batch.
    fsdp: Among how many consecutive devices the parameters are divided: the axes are `data` and
      `fsdp`, or `data` alone for 1.

  Raises:
    UserError: The devices do not divide by `fsdp`.
  """
  devices = np.asarray(jax.devices() if devices is None else devices)
  if devices.size % fsdp:
    raise UserError(f"config.mesh.fsdp is {fsdp}, which does not divide the {devices.size} "
                    f"devices; use {math.gcd(devices.size, fsdp)}")
  axes = {"data": devices.size // fsdp} | ({"fsdp": fsdp} if fsdp > 1 else {})
  # Auto axes: under explicit ones `z @ z.T` over a sharded batch is an error of types.
  return Mesh(devices.reshape(*axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * len(axes))


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
  """The first axis is divided among the devices."""
  return NamedSharding(mesh, PartitionSpec(_all(mesh)))


def of_state(mesh: Mesh, state: TrainState) -> TrainState:
  """The sharding of every array of a state, given the arrays or their shapes.

  Parameters and what the optimizer keeps of them are divided over the mesh axis `fsdp`, where the
  mesh has one, along their last axis that divides: a layer's outputs, as a division of its inputs
  tempts the compiler to divide the activations too. A memory (a queue, a bank) is divided over all
  devices along its longest axis. Arrays of less than LEAST_SHARDED numbers, and the rest of the
  state, are whole on every device.
  """
  def parameter(x):
    fits = [i for i, n in enumerate(x.shape) if n % mesh.shape["fsdp"] == 0]
    return _divided(mesh, x, max(fits, default=None), "fsdp")

  def bank(x):
    longest = max(range(x.ndim), key=lambda i: x.shape[i], default=None)
    fits = longest is not None and x.shape[longest] % mesh.size == 0
    return _divided(mesh, x, longest if fits else None, _all(mesh))

  new = jax.tree.map(lambda x: replicated(mesh), state)
  new = new._replace(memory=jax.tree.map(bank, state.memory))
  if "fsdp" not in mesh.axis_names:
    return new
  return new._replace(**{name: jax.tree.map(parameter, getattr(state, name))
                         for name in ("params", "target_params", "opt_state")})


def _divided(mesh: Mesh, x, axis: int | None, names: str | tuple[str, ...]) -> NamedSharding:
  if axis is None or x.size < LEAST_SHARDED:
    return replicated(mesh)
  return NamedSharding(mesh, PartitionSpec(*(None,) * axis, names))


def _all(mesh: Mesh) -> str | tuple[str, ...]:
  return mesh.axis_names if len(mesh.axis_names) > 1 else mesh.axis_names[0]


def global_batch(mesh: Mesh, host_batch: Batch) -> Batch:
  """Makes global arrays, divided over `data`, of the slices `[B / processes, ...]` of each host."""
  sharding = over_batch(mesh)
  return {name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
          for name, value in host_batch.items()}


def replicate(mesh: Mesh, tree):
  """Puts the same host arrays on every device of the mesh; every process must hold them all."""
  return jax.tree.map(
      lambda x: jax.make_array_from_process_local_data(replicated(mesh), np.asarray(x)), tree)
