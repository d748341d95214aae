"""Optimizers as chains of optax pieces, with the order of the pieces that each paper's code has."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import optax

from ssl_jax.errors import UserError, nearest
from ssl_jax.types import Params, Schedule

Mask = Callable[[Params], Any]  # params -> a tree of bool


def every(params: Params) -> Any:
  """The mask that holds for all parameters."""
  return jax.tree.map(lambda _: True, params)


def weights(params: Params) -> Any:
  """The mask of convolution and matrix kernels: not biases, not a norm's scale and offset.

  A parameter is out if it has at most one axis, if it is named `bias`, or if a module on its path
  is a norm. This is the exclusion that LARS makes from decay and from adaptation, where the
  papers' codes list variable names (BYOL) or match patterns (SimCLR).
  """
  def chosen(path, leaf):
    names = [str(getattr(p, "key", getattr(p, "name", p))).lower() for p in path]
    return leaf.ndim > 1 and names[-1] != "bias" and not any("norm" in n for n in names)
  return jax.tree_util.tree_map_with_path(chosen, params)


def sgd(learning_rate: Schedule, *, weight_decay: float = 0.0, momentum: float = 0.9,
        nesterov: bool = False, decayed: Mask = every) -> optax.GradientTransformation:
  """SGD as torch defines it: g <- g + wd w; v <- mu v + g; w <- w - lr v.

  The decay is part of the gradient and falls on all parameters unless `decayed` says otherwise;
  the learning rate stands outside the momentum buffer. With `nesterov`, w <- w - lr (g + mu v).
  """
  return optax.chain(
      optax.add_decayed_weights(weight_decay, mask=decayed),
      optax.trace(momentum, nesterov=nesterov),
      optax.scale_by_learning_rate(learning_rate))


def lars_byol(learning_rate: Schedule, *, weight_decay: float = 0.0, momentum: float = 0.9,
              trust_coefficient: float = 1e-3, adapted: Mask = weights
              ) -> optax.GradientTransformation:
  """LARS as in BYOL's code: g <- g + wd w; g <- g eta |w| / |g|; m <- mu m + g; w <- w - lr m.

  The learning rate stands outside the momentum, so a change of it acts at once on all of it.
  Parameters outside `adapted` take neither decay nor adaptation: they move by plain momentum SGD
  at the full rate. The ratio is 1 where either norm is 0. You et al. 2017, arXiv:1708.03888;
  eta 1e-3 and momentum 0.9 from Grill et al. 2020, arXiv:2006.07733.
  """
  return optax.chain(
      *_adapt(weight_decay, trust_coefficient, adapted),
      optax.trace(momentum),
      optax.scale_by_learning_rate(learning_rate))


def lars_simclr(learning_rate: Schedule, *, weight_decay: float = 0.0, momentum: float = 0.9,
                trust_coefficient: float = 1e-3, adapted: Mask = weights
                ) -> optax.GradientTransformation:
  """LARS as in SimCLR's code: the learning rate inside the momentum, m <- mu m + lr g; w <- w - m.

  Equal to `lars_byol` as long as the rate is constant, and only then. Chen et al. 2020,
  arXiv:2002.05709 (code).
  """
  return optax.chain(
      *_adapt(weight_decay, trust_coefficient, adapted),
      optax.scale_by_learning_rate(learning_rate),
      optax.trace(momentum))


def adamw(learning_rate: Schedule, *, weight_decay: float = 1e-2, b1: float = 0.9,
          b2: float = 0.999, eps: float = 1e-8, decayed: Mask = every
          ) -> optax.GradientTransformation:
  """AdamW with torch's defaults: the decay is lr wd w, apart from the gradient, on everything.

  Loshchilov and Hutter 2019, arXiv:1711.05101.
  """
  return optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=decayed)


OPTIMIZERS = {"sgd": sgd, "lars_byol": lars_byol, "lars_simclr": lars_simclr, "adamw": adamw}


def make_optimizer(name: str, learning_rate: Schedule, *, clip_norm: float | None = None,
                   **options) -> optax.GradientTransformation:
  """Returns a named optimizer, with the gradient's norm clipped before it if asked for.

  A gradient that is not finite is the step's business: `step.train_step` then keeps all it has.

  Args:
    name: One of `OPTIMIZERS`.
    learning_rate: Step -> rate; counts the updates that were kept.
    clip_norm: The largest global norm of the gradient, or None for no limit.
    **options: Keywords of the named optimizer.

  Raises:
    UserError: If the name or an option is unknown.
  """
  if name not in OPTIMIZERS:
    raise UserError(f"unknown optimizer {name!r}; {nearest(name, OPTIMIZERS)}")
  known = list(inspect.signature(OPTIMIZERS[name]).parameters)[1:]
  for option in options:
    if option not in known:
      raise UserError(f"optimizer {name} has no option {option!r}; {nearest(option, known)}")
  optimizer = OPTIMIZERS[name](learning_rate, **options)
  if clip_norm is not None:
    optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
  return optimizer


# How the peak learning rate follows the batch size B, by the names that papers use. Linear is
# Goyal et al. 2017 (arXiv:1706.02677); the square root is SimCLR's 0.075 sqrt(B).
SCALING = {
  "linear": lambda base, batch_size: base * batch_size / 256,
  "sqrt": lambda base, batch_size: base * batch_size**0.5,
  "none": lambda base, batch_size: base,
}


def scaled_learning_rate(base: float, batch_size: int, rule: str) -> float:
  """The learning rate for a batch: base B / 256 (linear), base sqrt(B) (sqrt), or base (none).

  Raises:
    UserError: If the rule is unknown.
  """
  if rule not in SCALING:
    raise UserError(f"unknown learning-rate scaling {rule!r}; {nearest(rule, SCALING)}")
  return SCALING[rule](base, batch_size)


def _adapt(weight_decay: float, trust_coefficient: float, adapted: Mask):
  return (
      optax.add_decayed_weights(weight_decay, mask=adapted),
      optax.masked(optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient), adapted))
