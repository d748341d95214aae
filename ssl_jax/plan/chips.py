"""What a TPU chip can do, and which slice a name such as `v5e-256` means.

Peak bf16 compute, memory, and interconnect are those of Google's pages on each generation,
https://cloud.google.com/tpu/docs/ followed by v3, v4, v5e, v5p, v6e and tpu7x (read in 2026). The
pages give the interconnect in both directions together, half of which is `ici`; v3's is that of
Jouppi et al. 2020 (Communications of the ACM 63(7), table 3: four links of 656 Gbit/s), v4's that
of Jouppi et al. 2023 (arXiv:2304.01433, table 4: six links of 50 GB/s).
"""

import math
import re
from typing import NamedTuple

from ssl_jax.errors import UserError, nearest

GIB = 2**30


class Chip(NamedTuple):
  """A generation of TPU; figures are per chip.

  Attributes:
    flops: bf16 operations per second.
    hbm: Bytes of memory.
    bandwidth: Bytes per second from and to it.
    ici: Bytes per second that all links together send.
    axes: Of the torus.
    devices: What JAX counts for one chip.
    counts_cores: Whether the number in a slice's name is of cores, two a chip.
    config: The compiler's name for its mode, where not the default.
  """

  flops: float
  hbm: int
  bandwidth: float
  ici: float
  axes: int
  devices: int = 1
  counts_cores: bool = False
  config: str = "default"

  @property
  def links(self) -> int:
    return 2 * self.axes


CHIPS = {
    "v3": Chip(123e12, 32 * GIB, 900e9, 328e9, 2, devices=2, counts_cores=True),
    "v4": Chip(275e12, 32 * GIB, 1200e9, 300e9, 3, counts_cores=True, config="megacore"),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 200e9, 2),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 600e9, 3, counts_cores=True),
    "v6e": Chip(918e12, 32 * GIB, 1638e9, 400e9, 2),
    "tpu7x": Chip(2307e12, 192 * GIB, 7380e9, 600e9, 3, devices=2, counts_cores=True),
}
CHIPS_PER_HOST = 4  # of the virtual machines of every generation's larger slices


class Slice(NamedTuple):
  """Chips that are wired to each other.

  Attributes:
    name: As the user wrote it.
    generation: A name of CHIPS.
    shape: Chips along the axes of the torus.
  """

  name: str
  generation: str
  shape: tuple[int, ...]

  @property
  def chip(self) -> Chip:
    return CHIPS[self.generation]

  @property
  def chips(self) -> int:
    return math.prod(self.shape)

  @property
  def devices(self) -> int:
    return self.chips * self.chip.devices

  @property
  def hosts(self) -> int:
    return -(-self.chips // CHIPS_PER_HOST)

  @property
  def topology(self) -> str:
    """As the compiler calls it."""
    return f"{self.generation}:{'x'.join(map(str, self.shape))}"


def find_slice(name: str) -> Slice:
  """The slice of a name: `v5e-256` by size, `v5e:8x32` by shape.

  Sizes are as in Google's names: chips for v5e and v6e, cores (two a chip) for the others.

  Raises:
    UserError: There is no such generation or no such size.
  """
  match = re.fullmatch(r"(\w+)(?:-(\d+)|:(\d+(?:x\d+){1,2}))", name)
  example = "write it like v5e-256 or v5p:4x4x8"
  if not match:
    raise UserError(f"--plan={name!r} is not a slice; {example}")
  generation, size, shape = match.groups()
  if generation not in CHIPS:
    raise UserError(f"--plan={name}: unknown TPU {generation!r}; {nearest(generation, CHIPS)}")
  chip = CHIPS[generation]
  if shape:
    found = tuple(int(n) for n in shape.split("x"))
    if len(found) != chip.axes or 0 in found:
      raise UserError(f"--plan={name}: a {generation} slice has {chip.axes} axes; {example}")
    return Slice(name, generation, found)
  chips, odd = divmod(int(size), 2 if chip.counts_cores else 1)
  if odd or chips < 1 or chips & (chips - 1):
    unit = "cores (two a chip)" if chip.counts_cores else "chips"
    raise UserError(f"--plan={name}: {size} {unit} are not a power of two; "
                    f"write the shape, such as {generation}:{'x'.join('4' * chip.axes)}")
  return Slice(name, generation, _shape(chips, chip.axes))


def _shape(chips: int, axes: int) -> tuple[int, ...]:
  """A power of two, spread over the axes; a host's 2 x 2 chips lie in the first two."""
  power = chips.bit_length() - 1
  if axes == 3 and power < 3:
    return (*_shape(chips, 2), 1)
  return tuple(2 ** ((power + i) // axes) for i in range(axes))
