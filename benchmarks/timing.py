"""Honest times: warm up, wait for the device, repeat, take the median; and what it ran on."""

import datetime
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

WARM_UP = 3  # calls before the clock: compilation, autotuning, first use of the allocator
LEAST = 5  # groups that a median is taken of


def median_ms(call: Callable[[], Any], wait: Callable[[Any], Any], *, seconds: float = 2.0,
              group: int = 5) -> float:
  """The median time of a call in milliseconds.

  Calls are queued in groups, so that a device that runs behind its host is not waited for after
  every one.

  Args:
    call: What is timed; it returns what it computed.
    wait: Blocks until that is computed, such as `jax.block_until_ready`.
    seconds: Groups are repeated for as long, and at least five times.
    group: Calls that are queued before waiting.
  """
  for _ in range(WARM_UP):
    wait(call())
  times = []
  end = time.perf_counter() + seconds
  while time.perf_counter() < end or len(times) < LEAST:
    start = time.perf_counter()
    for _ in range(group):
      result = call()
    wait(result)
    times.append((time.perf_counter() - start) / group)
  return 1e3 * statistics.median(times)


def processor() -> str:
  """The name of this machine's CPU and the number of cores that may be used."""
  name = platform.processor() or platform.machine()
  info = pathlib.Path("/proc/cpuinfo")
  if info.exists():
    lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    name = lines[0].partition(":")[2].strip() if lines else name
  return f"{name}, {len(os.sched_getaffinity(0))} cores"


def machine() -> dict[str, Any]:
  """What every file of figures tells of its origin; `load` is of the minute before."""
  import jax  # here, so that a process without jax can use the clock

  device = jax.devices()[0]
  return {"device": device.device_kind, "platform": device.platform, "devices": jax.device_count(),
          "cpu": processor(), "jax": jax.__version__, "python": platform.python_version(),
          "load": round(os.getloadavg()[0], 2),
          "date": datetime.datetime.now(datetime.UTC).date().isoformat()}


def write(path: str | os.PathLike | None, figures: dict[str, Any]) -> None:
  """Writes figures as JSON, if a path is given."""
  if path:
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")


def table(header: list[str], rows: list[list[Any]]) -> str:
  """Columns for a terminal: the first to the left, the others to the right."""
  cells = [header, *([_cell(value) for value in row] for row in rows)]
  widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
  return "\n".join("  ".join(
      value.ljust(width) if i == 0 else value.rjust(width)
      for i, (value, width) in enumerate(zip(row, widths, strict=True))) for row in cells)


def _cell(value: Any) -> str:
  if value is None:
    return "-"
  if not isinstance(value, float):
    return f"{value:,}" if isinstance(value, int) else str(value)
  digits = ",.0f" if abs(value) >= 1000 else ".1f" if abs(value) >= 10 else ".3g"
  return format(value, digits)
