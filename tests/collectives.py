"""What a compiled function sends between devices, read from its HLO."""

import re
from typing import NamedTuple

import numpy as np

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


class Collective(NamedTuple):
  kind: str
  elements: int  # of the largest array that it makes
  line: str


def collectives(compiled) -> list[Collective]:
  """The collectives of `jax.jit(f).lower(...).compile()`."""
  found = []
  for line in compiled.as_text().splitlines():
    match = re.search(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(", line)
    if match:
      sizes = [int(np.prod([int(n) for n in dims.split(",") if n]))
               for dims in re.findall(r"\[([\d,]*)\]", match.group(1))]
      found.append(Collective(match.group(2), max(sizes), line.strip()))
  return found
