"""Just enough of the protocol buffers' wire format to read messages, without their schema.

https://protobuf.dev/programming-guides/encoding: a message is a row of (field number, value); the
value is a number or a stretch of bytes, which may be a string, a message or packed numbers.
"""

from collections.abc import Iterator

from ssl_jax.errors import UserError

Value = int | memoryview


def varint(data: memoryview, at: int) -> tuple[int, int]:
  """The number that begins at byte `at`, seven bits a byte, and where it ends."""
  value = shift = 0
  while True:
    if at >= len(data) or shift > 63:
      raise UserError("a number runs past the end of its message")
    byte = data[at]
    value |= (byte & 127) << shift
    at, shift = at + 1, shift + 7
    if byte < 128:
      return value, at


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
  """The fields of a message, in the order of the file.

  Raises:
    UserError: A field is longer than what is left of the message.
  """
  at = 0
  while at < len(data):
    tag, at = varint(data, at)
    number, kind = tag >> 3, tag & 7
    if kind == 0:
      value, at = varint(data, at)
      yield number, value
      continue
    if kind == 2:
      size, at = varint(data, at)
    elif kind in (1, 5):
      size = 8 if kind == 1 else 4
    else:
      raise UserError(f"a field of wire type {kind}, which is not in use")
    if at + size > len(data):
      raise UserError(f"a field claims {size:,} bytes where {len(data) - at:,} are left")
    yield number, data[at:at + size]
    at += size


def message(data: memoryview) -> dict[int, list[Value]]:
  """The fields of a message by number."""
  found: dict[int, list[Value]] = {}
  for number, value in fields(data):
    found.setdefault(number, []).append(value)
  return found


def signed(value: int) -> int:
  """A varint as the int64 that it encodes."""
  return value - (1 << 64) if value >> 63 else value


def numbers(values: list[Value]) -> list[int]:
  """A repeated int64 field, whether its numbers are packed or stand alone."""
  found = []
  for value in values:
    if isinstance(value, int):
      found.append(signed(value))
      continue
    at = 0
    while at < len(value):
      number, at = varint(value, at)
      found.append(signed(number))
  return found


def text(values: list[Value], default: str = "") -> str:
  """A string field."""
  return bytes(values[-1]).decode("utf8", "replace") if values else default
