"""Choosing by name."""

from collections.abc import Mapping
from typing import Any

from ssl_jax.errors import UserError, nearest


def choose(what: str, name: str, known: Mapping[str, Any]) -> Any:
  """`known[name]`, or a UserError that says what was asked for and what is near."""
  if name not in known:
    raise UserError(f"{what}: unknown {name!r}; {nearest(str(name), known)}")
  return known[name]
