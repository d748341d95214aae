"""What to change where a step does not fit into a device's memory."""

from collections.abc import Mapping
from typing import Any

Family = list[tuple[str, dict[str, Any]]]


def families(config: Mapping[str, Any], devices: int) -> list[Family]:
  """Kinds of change, each from mild to strong, as (what the command line would say, config)."""
  return [family for family in (
      _precision(config), _remat(config), _sharding(config, devices),
      _micro_batches(config, devices), _batch(config, devices)) if family]


def _precision(config) -> Family:
  if config["model"].get("dtype") == "bfloat16":
    return []
  return [("--config.model.dtype=bfloat16", _with(config, "model", "dtype", "bfloat16"))]


def _remat(config) -> Family:
  if config["model"].get("remat"):
    return []
  return [("--config.model.remat=True", _with(config, "model", "remat", True))]


def _sharding(config, devices) -> Family:
  now = config["mesh"]["fsdp"]
  return [(f"--config.mesh.fsdp={n}", _with(config, "mesh", "fsdp", n))
          for n in sorted({8, devices}) if now < n <= devices and devices % n == 0]


def _micro_batches(config, devices) -> Family:
  group = config["model"].get("norm_group") or 1
  return [(f"--config.micro_batches={n}", dict(config) | {"micro_batches": n})
          for n in (2, 4, 8, 16) if n > config["micro_batches"]
          and config["batch_size"] % (n * group) == 0 and config["batch_size"] // n % devices == 0]


def _batch(config, devices) -> Family:
  least = config["micro_batches"] * (config["model"].get("norm_group") or 1)
  return [(f"--config.batch_size={n}", dict(config) | {"batch_size": n})
          for n in (config["batch_size"] // 2, config["batch_size"] // 4)
          if n and n % (devices * config["micro_batches"]) == 0 and n % least == 0]


def _with(config, group: str, field: str, value) -> dict[str, Any]:
  return dict(config) | {group: dict(config[group]) | {field: value}}
