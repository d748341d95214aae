"""What a compiled program sends between devices, read from its HLO text."""

import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
BITS = {"pred": 8, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "f16": 16, "bf16": 16, "s32": 32,
        "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64}
# The first of these that the path of an operation in the program matches tells what it is for.
PURPOSES = (
    ("BatchNorm", r"norm\w*/"),
    ("gradients", r"transpose\(jvp\(\w"),
    ("parameters", r"jvp\(\w"),
    ("loss", r"jvp\(\)"),
    ("memory bank", r"scatter|dynamic_update"),
    ("views", r"gather|sort|permut|dynamic_slice|take"),
)


class Collective(NamedTuple):
  """All collectives of one kind for one purpose.

  Attributes:
    kind: A name of KINDS.
    purpose: What they are for.
    count: How many run in a step.
    size: Bytes of their results on a device, added up.
    group: Devices that take part in the largest.
  """

  kind: str
  purpose: str
  count: int
  size: int
  group: int


def collectives(text: str, devices: int) -> list[Collective]:
  """The collectives of a module, the largest first; one in a loop counts as often as it runs."""
  found: dict[tuple[str, str], Collective] = {}
  runs, seen, paths = _runs(text), set(), _paths(text)
  for name, body in _computations(text):
    for line in body:
      match = re.search(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(", line)
      if not match:
        continue
      shape, kind, start = match.groups()
      size, purpose = _result_bytes(shape, kind, bool(start)), _purpose(line, paths)
      # The TPU's compiler spreads one transfer over several computations, with one channel.
      channel = re.search(r"channel_id=(\d+)", line)
      identity = (kind, channel.group(1), size, purpose) if channel else line
      if identity in seen:
        continue
      seen.add(identity)
      count = runs.get(name, 1)
      before = found.get((kind, purpose), Collective(kind, purpose, 0, 0, 1))
      found[kind, purpose] = before._replace(
          count=before.count + count, size=before.size + size * count,
          group=max(before.group, _group(line, devices)))
  return sorted(found.values(), key=lambda c: -c.size)


def _result_bytes(shape: str, kind: str, start: bool) -> int:
  """Bytes of an operation's result; that of a start holds the operands too."""
  arrays = [(BITS.get(kind_, 32) // 8) * _elements(dims)
            for kind_, dims in re.findall(r"(\w+)\[([\d,]*)\]", shape)]
  if not start or kind == "all-reduce":
    return sum(arrays)
  # (operands, results, context words): the results are the larger half, or equal to it.
  large = [size for size in arrays if size > 4]
  return sum(sorted(large)[len(large) // 2:]) if len(large) > 1 else sum(large)


def _elements(dims: str) -> int:
  product = 1
  for n in dims.split(","):
    product *= int(n) if n else 1
  return product


def _group(line: str, devices: int) -> int:
  """Devices per group: from `[G,S]<=[N]` or from the first of `{{0,1},{2,3}}`."""
  iota = re.search(r"replica_groups=\[(\d+),(\d+)\]", line)
  if iota:
    return int(iota.group(2))
  listed = re.search(r"replica_groups=\{\{([\d,]+)\}", line)
  return listed.group(1).count(",") + 1 if listed else devices


def _paths(text: str) -> dict[str, str]:
  """Operation -> its path in the program, where the compiler has kept it."""
  return dict(re.findall(r'%([\w.\-]+) = [^\n]*op_name="([^"]*)"', text))


def _purpose(line: str, paths: dict[str, str]) -> str:
  """What a collective is for, by its path or else by that of what it sends."""
  names = re.findall(r"%([\w.\-]+)", line)
  found = [paths[name] for name in names if name in paths]
  path = found[0] if found else ""
  return next((purpose for purpose, pattern in PURPOSES if re.search(pattern, path)), "other")


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
  name, body = "", []
  for line in text.splitlines():
    opening = re.match(r"(?:ENTRY )?%?([\w.\-]+) .*\{$", line)
    if opening and not line.startswith(" "):
      name, body = opening.group(1), []
    elif line.startswith("}"):
      yield name, body
    else:
      body.append(line)


def _runs(text: str) -> dict[str, int]:
  """Computation -> how often it runs in a step: the trips of the loops around it, multiplied."""
  callers: dict[str, tuple[str, int]] = {}
  for name, body in _computations(text):
    for line in body:
      count = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
      for role, callee in re.findall(r"(body|calls|to_apply)=%?([\w.\-]+)", line):
        callers[callee] = name, int(count.group(1)) if count and role == "body" else 1

  def total(name: str) -> int:
    caller, count = callers.get(name, ("", 1))
    return count * total(caller) if caller else 1
  return {name: total(name) for name in callers}
