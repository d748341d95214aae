"""Split strings in the manner of TFDS: `train`, `train[:50%]`, `test[1000:]`, `train+validation`.

One small parser serves every kind of source, so that a sub-split of a folder means what it means
for a TFDS set. Percentages are rounded to the nearest record, as TFDS does by default.
"""

import re
from typing import NamedTuple

from ssl_jax.errors import UserError

_PART = re.compile(r"^(?P<name>[A-Za-z0-9_.-]+)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?$")


class Part(NamedTuple):
  """One term of a split string: a named split and the range asked of it."""

  name: str
  start: str | None
  stop: str | None

  def bounds(self, count: int) -> tuple[int, int]:
    """The half-open range of records within a split of `count` records.

    Raises:
      UserError: A bound lies outside the split, as with TFDS and unlike Python's slices.
    """
    start = 0 if self.start is None else self._offset(self.start, count)
    stop = count if self.stop is None else self._offset(self.stop, count)
    return start, max(start, stop)

  def _offset(self, text: str, count: int) -> int:
    number = int(text.removesuffix("%"))
    offset = round(count * number / 100) if text.endswith("%") else number
    if abs(offset) > count:
      raise UserError(f"split {self.name}[{self.start or ''}:{self.stop or ''}]: {text} lies "
                      f"outside the {count} images of {self.name}; ask for a part that it has")
    return offset + count if text.startswith("-") else offset


def parse(split: str) -> tuple[Part, ...]:
  """Parses a split string into its parts.

  Raises:
    UserError: The string is not of the form `name`, `name[start:stop]` or a sum of these.
  """
  parts = [_PART.match(term.strip()) for term in split.split("+")]
  if not all(parts):
    raise UserError(
        f"split {split!r} is not understood; write it like train, train[:50%], train[1000:] or "
        "train+validation")
  return tuple(Part(p["name"], p["start"], p["stop"]) for p in parts)


def check_exists(name: str, known: list[str], spec: str) -> None:
  """Raises a UserError that names the splits that exist, unless `name` is one of them."""
  if name not in known:
    hint = f"; for held-out images ask for {known[0]}[90%:]" if len(known) == 1 else ""
    raise UserError(f"{spec} has no split {name!r}; it has {', '.join(known)}{hint}")
