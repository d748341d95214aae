"""Pretraining methods, one file a paper: `METHODS[name](run, **options) -> Method`."""

import inspect

from ssl_jax.errors import UserError, nearest
from ssl_jax.methods.byol import byol
from ssl_jax.methods.clsa import clsa, clsa_symmetric
from ssl_jax.methods.joint import ce_selfsupcon, supcon_selfsupcon
from ssl_jax.methods.moco import moco_v1, moco_v2, selfsupcon
from ssl_jax.methods.moco_v3 import moco_v3
from ssl_jax.methods.relic import relic
from ssl_jax.methods.relicv2 import relicv2
from ssl_jax.methods.simclr import simclr
from ssl_jax.methods.supcon import supcon
from ssl_jax.methods.supcon_queue import supcon_queue
from ssl_jax.methods.supervised import supervised
from ssl_jax.types import Method, Run

METHODS = {
    "simclr": simclr,
    "moco_v1": moco_v1,
    "moco_v2": moco_v2,
    "moco_v3": moco_v3,
    "clsa": clsa,
    "clsa_symmetric": clsa_symmetric,
    "byol": byol,
    "relic": relic,
    "relicv2": relicv2,
    "supcon": supcon,
    "supcon_queue": supcon_queue,
    "supervised": supervised,
    "selfsupcon": selfsupcon,
    "ce_selfsupcon": ce_selfsupcon,
    "supcon_selfsupcon": supcon_selfsupcon,
}
NEEDS_LABELS = {"supcon", "supcon_queue", "supervised", "ce_selfsupcon", "supcon_selfsupcon"}


def options_of(name: str) -> dict[str, object]:
  """The options of a method with their defaults.

  Raises:
    UserError: If there is no method of that name.
  """
  if name not in METHODS:
    raise UserError(f"unknown method {name!r}; {nearest(name, METHODS)}")
  parameters = list(inspect.signature(METHODS[name]).parameters.values())[1:]
  return {p.name: p.default for p in parameters}


def make_method(name: str, run: Run, **options) -> Method:
  """Builds a named method; a None option takes its default.

  Raises:
    UserError: If the method or one of its options is unknown, or it needs labels and has none.
  """
  known = options_of(name)
  for option in options:
    if option not in known:
      raise UserError(f"method {name} has no option {option!r}; {nearest(option, known)}")
  if name in NEEDS_LABELS and not run.num_classes:
    raise UserError(f"method {name} needs labels and the data has none; use another method, "
                    "or data with one folder per class")
  return METHODS[name](run, **{k: v for k, v in options.items() if v is not None})
