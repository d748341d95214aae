"""How long a step takes at least on a slice, and what a run of it needs."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ssl_jax.plan.chips import Slice


class Times(NamedTuple):
  """Seconds of a step if nothing else took time; the longest is the least that a step can take."""

  compute: float
  memory: float
  interconnect: float

  @property
  def step(self) -> float:
    return max(self)

  @property
  def bound(self) -> str:
    """What the longest is."""
    return self._fields[self.index(self.step)]


def times(figures: Mapping[str, Any], where: Slice) -> Times:
  """The roofline of a compiled step: operations, bytes and transfers over the chip's peaks.

  Williams et al. 2009. A bound and not a forecast, as no program reaches the peaks; nor a strict
  one for the memory, as XLA counts operands that stay on the chip among the bytes.
  """
  chip = where.chip
  return Times(
      compute=figures["flops"] * chip.devices / chip.flops,
      memory=figures["bytes"] * chip.devices / chip.bandwidth,
      interconnect=sum(transfer(c, where) for c in figures["collectives"]))


def transfer(collective: Mapping[str, Any], where: Slice) -> float:
  """Seconds of collectives, by their bytes alone, on rings along all axes of the torus at once.

  In a group of n, an all-gather of s bytes sends s (n - 1) / n from every device and an all-reduce
  twice that (Patarasuk and Yuan 2009). A permutation uses one link. In an all-to-all, a byte
  travels a quarter of every axis on the mean. The devices of one chip share its links.
  """
  n, size = collective["group"], collective["size"]
  if n < 2:
    return 0.0
  share = {"all-gather": (n - 1) / n, "all-reduce": 2 * (n - 1) / n,
           "reduce-scatter": n - 1,  # of its result, which is 1 / n of what is reduced
           "collective-permute": where.chip.links,
           "all-to-all": (n - 1) / n * sum(max(k / 4, 1) for k in where.shape)}
  return share[collective["kind"]] * size * where.chip.devices / where.chip.ici


def hbm(figures: Mapping[str, Any]) -> int:
  """Bytes of a device's memory that a step needs: what it is given, makes and returns."""
  return sum(figures[k] for k in ("arguments", "temporaries", "results", "code"))


def capacity(where: Slice) -> int:
  """Bytes of memory of one device."""
  return where.chip.hbm // where.chip.devices


def summary(config: Mapping[str, Any], figures: Mapping[str, Any], where: Slice) -> dict[str, Any]:
  """All that is told of one plan, in SI units and bytes per device."""
  found = times(figures, where)
  speed = config["batch_size"] / found.step
  return {
      "slice": where.name, "chips": where.chips, "devices": where.devices, "hosts": where.hosts,
      "topology": where.topology, "batch_size": config["batch_size"],
      "hbm_needed": hbm(figures), "hbm_capacity": capacity(where),
      "fits": hbm(figures) <= capacity(where),
      "seconds": found._asdict(), "bound": found.bound, "step_seconds": found.step,
      "images_per_second": speed, "images_per_second_per_host": speed / where.hosts,
      "total_steps": figures["total_steps"], "hours": figures["total_steps"] * found.step / 3600,
      "chip_hours": math.prod((figures["total_steps"], found.step, where.chips)) / 3600,
      "figures": dict(figures)}
