"""The one exception that a user is meant to read."""

import difflib
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
  """A mistake in what the user asked for, told in one line.

  The message names the thing, the value it has, and the way out. `main` prints it without a
  traceback and exits with status 2; from Python it is an ordinary exception.
  """


def exiting(command: Callable[[list[str]], None], argv: list[str]) -> None:
  """Runs a command on its arguments; a mistake of the user's is one line, and exit status 2."""
  try:
    command(argv)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
  """Returns a suggestion such as `did you mean 'simclr'?`, or the list of what is known."""
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=count, cutoff=0.5)
  if close:
    return "did you mean " + " or ".join(repr(c) for c in close) + "?"
  shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
  return f"known: {shown}"
