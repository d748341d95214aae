"""How long something lasts, and the curves that follow the steps."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import optax

from ssl_jax.errors import UserError
from ssl_jax.types import Schedule

UNITS = ("steps", "epochs", "examples", "percent")


def steps(name: str, config: Mapping[str, Any], *, batch_size: int,
          num_examples: int | None = None, total_steps: int | None = None) -> int:
  """Returns a duration in steps: whichever of `{name}_steps`, `_epochs`, .. the config holds.

  Rounded down as BYOL's code does, epochs * N // B (SimCLR's code takes one step more). Values may
  be fractional and are read as decimals, so that 0.7 epochs of 1000 images are 700 images.

  Args:
    name: What lasts, such as "total" or "warmup".
    config: A mapping in which one of the four fields is there and not None.
    batch_size: B, the global batch.
    num_examples: N, images in an epoch; needed for epochs.
    total_steps: Steps of the whole run; needed for percent (0 to 100).

  Raises:
    UserError: If no field or more than one is given, or the value cannot be converted.
  """
  fields = {unit: f"{name}_{unit}" for unit in UNITS}
  given = {u: config.get(f) for u, f in fields.items() if config.get(f) is not None}
  if len(given) != 1:
    found = " and ".join(f"{fields[u]}={v}" for u, v in given.items()) or "none"
    raise UserError(f"one of {', '.join(fields.values())} must be set, found {found}")
  (unit, value), = given.items()
  shown = f"{fields[unit]}={value}"
  try:
    amount = Fraction(str(value))
  except ValueError:
    raise UserError(f"{shown} is not a number") from None
  if amount < 0:
    raise UserError(f"{shown} is negative")
  if unit == "steps":
    return int(amount)
  if unit == "examples":
    return int(amount // batch_size)
  if unit == "epochs":
    if num_examples is None:
      raise UserError(f"{shown} needs the number of images; set {fields['steps']} instead")
    return int(amount * num_examples // batch_size)
  if total_steps is None or amount > 100:
    raise UserError(f"{shown} must be a share from 0 to 100 of a known length; "
                    f"set {fields['steps']} instead")
  return int(amount * total_steps // 100)


def constant(value: float) -> Schedule:
  """A schedule that is always `value`."""
  return optax.constant_schedule(value)


def warmup_cosine(peak: float, *, warmup: int, total: int) -> Schedule:
  """Linear warm-up from exactly 0 at step 0 to `peak`, then half a cosine down to 0 at `total`.

  peak k / warmup for k < warmup, then peak (1 + cos(pi (k - warmup) / (total - warmup))) / 2
  (BYOL's and SimCLR's learning rate; Loshchilov and Hutter 2016, arXiv:1608.03983).

  Args:
    peak: The highest value.
    warmup: Steps of warm-up; 0 starts at the peak.
    total: Steps in all.

  Raises:
    UserError: If the warm-up leaves no step of the total.
  """
  if not 0 <= warmup < total:
    raise UserError(f"a warm-up of {warmup} steps does not fit in {total} steps in all; "
                    "shorten it, for example with warmup_percent=5")
  return optax.join_schedules(
      [lambda k: peak * k / max(warmup, 1), optax.cosine_decay_schedule(peak, total - warmup)],
      [warmup])


def cosine_by_epoch(value: float, *, steps_per_epoch: int, epochs: int) -> Schedule:
  """Half a cosine from `value` that moves once per epoch e: value (1 + cos(pi e / epochs)) / 2.

  MoCo v2's learning rate (Chen et al. 2020, arXiv:2003.04297, code); the last epoch is not at 0.
  """
  curve = optax.cosine_decay_schedule(value, epochs)
  return lambda step: curve(step // steps_per_epoch)


def warmup_cosine_by_epoch(peak: float, *, warmup: int, steps_per_epoch: int, epochs: int
                           ) -> Schedule:
  """Linear warm-up from peak / 100, then a cosine that moves once per epoch and does not end.

  peak (1 + cos(pi (e - w) / epochs)) / 2 at epoch e after w epochs of warm-up: the denominator is
  the whole run, so the last of 400 epochs, with w = 5, still has 0.00056 of the peak. Islam et al.
  2021, arXiv:2103.13517, code (without its floor of 1e-8).
  """
  return optax.join_schedules(
      [lambda k: peak * (0.01 + 0.99 * k / max(warmup, 1)),
       cosine_by_epoch(peak, steps_per_epoch=steps_per_epoch, epochs=epochs)], [warmup])


def step_decay(value: float, *, boundaries: tuple[int, ...], factor: float = 0.1) -> Schedule:
  """`value`, multiplied by `factor` from each boundary (in steps) on.

  MoCo v1's learning rate: x 0.1 at epochs 120 and 160 of 200 (arXiv:1911.05722).
  """
  return optax.piecewise_constant_schedule(value, {b: factor for b in boundaries})


def ema_cosine(base: float, *, total: int) -> Schedule:
  """A target's decay that rises to 1: 1 - (1 - base) (1 + cos(pi k / total)) / 2, no warm-up.

  Grill et al. 2020, arXiv:2006.07733, section 3.3.
  """
  return lambda step: 1.0 - (1.0 - base) * 0.5 * (
      1.0 + jnp.cos(jnp.pi * jnp.minimum(step, total) / total))
