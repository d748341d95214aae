"""Logistic regression along a path of L2 penalties, from strong to weak, on the device."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from ssl_jax.evaluate.logistic import (
  EXACT,
  HISTORY,
  Linear,
  dot,
  in_features,
  principal_axes,
  two_loops,
)
from ssl_jax.types import Array

REFRESH = 10  # iterations after which the Hessian's diagonal is computed again
LINE_STEPS = 12  # the most of a line search
FLAT = 0.3  # of the first slope: a line search may end with the Newton step after this
FLOOR = 0.01  # least share of the mean curvature that the preconditioner assumes


class Link(NamedTuple):
  """How scores [N, S, C] become a loss, for targets bool[N, 1, C]; precise near certainty.

  Attributes:
    value: (logits, target) -> (loss f32[S], its derivative [N, S, C], second derivative [N, S, C]).
    bend: (derivative, second derivative, slope, target) -> the second derivative f32[S] of the loss
      along `slope` [N, S, C].
  """

  value: Callable[[Array, Array], tuple[Array, Array, Array]]
  bend: Callable[[Array, Array, Array, Array], Array]


def _softmax_value(logits, target):
  # p - 1 of a certain example is no number of f32; the sum of the other classes' p is.
  own = jnp.sum(jnp.where(target, logits, 0.0), axis=-1, keepdims=True)
  margin = logits - own
  top = jnp.maximum(jnp.max(jnp.where(target, 0.0, margin), axis=-1, keepdims=True), 0.0)
  weight = jnp.where(target, 0.0, jnp.exp(margin - top))
  others = jnp.sum(weight, axis=-1, keepdims=True)
  total = others + jnp.exp(-top)
  p = weight / total
  wrong = others / total
  loss = jnp.sum(top + jnp.log1p(others + jnp.expm1(-top)), axis=(0, 2))
  return loss, jnp.where(target, -wrong, p), jnp.where(target, wrong * (1 - wrong), p * (1 - p))


def _softmax_bend(error, curvature, slope, target):
  del curvature
  own = jnp.sum(jnp.where(target, slope, 0.0), axis=-1, keepdims=True)
  p, d = jnp.where(target, 0.0, error), slope - own
  return jnp.sum(jnp.sum(p * d * d, -1) - jnp.sum(p * d, -1)**2, axis=0)


def _sigmoid_value(logits, target):
  sign = jnp.where(target, -1.0, 1.0)
  wrong = jax.nn.sigmoid(sign * logits)
  return (jnp.sum(jax.nn.softplus(sign * logits), axis=(0, 2)), sign * wrong,
          wrong * (1 - wrong))


def _sigmoid_bend(error, curvature, slope, target):
  del error, target
  return jnp.sum(curvature * slope * slope, axis=(0, 2))


SOFTMAX = Link(_softmax_value, _softmax_bend)  # one class an image
SIGMOID = Link(_sigmoid_value, _sigmoid_bend)  # every class for itself


class _State(NamedTuple):
  u: Array  # [R, S, C], the last row being the intercept
  logits: Array  # [N, S, C]
  loss: Array  # [S]
  gradient: Array  # [R, S, C]
  hessian: Array  # [R, S, C], the diagonal of the loss's
  steps: Array  # [M, R, S, C], newest first
  changes: Array  # [M, R, S, C], of the gradient
  fresh: Array  # bool[S], nothing remembered
  index: Array  # i32[S], the penalty that a slot works at; P when it rests
  count: Array  # i32[S], iterations at it
  coming: Array  # i32[], the next penalty
  clock: Array  # i32[]
  found: Array  # [P, R, C]
  losses: Array  # [P]
  counts: Array  # i32[P]


@partial(jax.jit, static_argnames=("link", "slots", "iterations"))
def regularisation_path(features: Array, target: Array, l2: Array, *, link: Link = SOFTMAX,
                        slots: int = 1, iterations: int = 1000, tolerance: float = 3e-7,
                        start: Linear | None = None) -> tuple[Linear, Array]:
  """Minimises l2 |W|^2 / 2 + sum_n loss(x_n W + b, target_n) for every penalty of a path.

  The problem of `logistic_regression`, for many penalties and both links. `slots` problems advance
  together, as one matrix product with the features; a slot whose problem is done takes the next
  weaker penalty and goes on from where it is, its memory of the curvature corrected for the new
  penalty, which is exact and costs no product with the features. With `slots` = P all problems
  start from zero at once; with one slot each starts from its neighbour's solution: the least
  arithmetic, so the choice where matrices are large enough to fill the device.

  Args:
    features: [N, F].
    target: bool[N, C], the classes of each image.
    l2: f32[P] > 0, strongest first.
    link: `SOFTMAX`, or `SIGMOID` for C separate binary problems.
    slots: S, how many advance together.
    iterations: The most for one penalty.
    tolerance: A problem is done when the decrease it can expect falls below this share of its
      objective.
    start: P' classifiers, the first of which the path starts from; None is zero.

  Returns:
    P classifiers in the order of l2, and i32[P], the iterations that each took.
  """
  chex.assert_rank([features, target, l2], [2, 2, 1])
  axes_x, axes, mean = principal_axes(features)
  u = None
  if start is not None:
    kernel = jnp.einsum("fr,fc->rc", axes, start.kernel[0], precision=EXACT)
    u = jnp.concatenate([kernel, (start.bias[0] + mean @ start.kernel[0])[None]])
  end = _descend(axes_x, target, l2, u, link=link, slots=min(slots, len(l2)),
                 iterations=iterations, tolerance=tolerance)
  found = Linear(end.found[:, :-1], end.found[:, -1], end.losses, end.clock)
  return in_features(found, axes, mean), end.counts


def _descend(x, target, l2, u, *, link, slots, iterations, tolerance) -> _State:
  N, P, C, S = x.shape[0], l2.shape[0], target.shape[1], slots
  x = jnp.concatenate([x, jnp.ones((N, 1))], axis=1)
  R = x.shape[1]
  square, mass = x * x, jnp.sum(x * x, axis=0)[:, None, None]
  target = target.astype(bool)[:, None]
  penalised = (jnp.arange(R) < R - 1)[:, None, None]
  l2_of = lambda index: jnp.where(penalised, l2[jnp.minimum(index, P - 1)][None, :, None], 0.0)

  def forward(u):
    return jnp.matmul(x, u.reshape(R, S * C), precision=EXACT).reshape(N, S, C)

  def backward(x, error):
    return jnp.matmul(x.T, error.reshape(N, S * C), precision=EXACT).reshape(R, S, C)

  def precondition(hessian, penalty):
    average = jnp.sum(hessian[-1], axis=-1) / (N * C)
    return 1.0 / (hessian + FLOOR * average[:, None] * mass + penalty + 1e-12 * mass + 1e-20)

  def line_search(state, slope, direction, expected, penalty, rests):
    """Nearly the minimum along the direction, by Newton's method; 0 where a slot rests."""
    quadratic = dot(penalty * direction, direction)
    linear = dot(penalty * state.u, direction)

    def newton(carry):
      t, _, count = carry
      _, error, curvature = link.value(state.logits + t[:, None] * slope, target)
      first = jnp.sum(error * slope, axis=(0, 2)) + linear + t * quadratic
      second = link.bend(error, curvature, slope, target) + quadratic
      return (jnp.clip(t - first / jnp.maximum(second, 1e-30), 0.1 * t, 10.0 * t),
              rests | (jnp.abs(first) <= FLAT * expected), count + 1)

    def rough(carry):
      return (carry[2] < LINE_STEPS) & ~carry[1].all()

    t = jax.lax.while_loop(rough, newton, (jnp.ones(S), jnp.zeros(S, bool), 0))[0]
    return jnp.where(rests, 0.0, t)

  def advance(state):
    penalty = l2_of(state.index)
    direction = -two_loops(
        state.gradient, state.steps, state.changes, precondition(state.hessian, penalty))
    expected = -dot(state.gradient, direction)
    active = state.index < P
    done = active & (expected <= tolerance * state.loss)
    rests = done | ~active
    slope = forward(direction)
    t = line_search(state, slope, direction, expected, penalty, rests)
    step = t[:, None] * direction
    u, logits = state.u + step, state.logits + t[:, None] * slope
    loss, error, _ = link.value(logits, target)
    gradient = backward(x, error) + penalty * u
    loss = loss + 0.5 * dot(penalty * u, u)
    # Not better: forget the curvature and try again; if nothing was remembered, f32 can no more.
    worse = ~rests & ~(loss < state.loss)
    keep = lambda new, old: jnp.where(worse[:, None], old, new)
    u, logits, gradient = (keep(*pair) for pair in (
        (u, state.u), (logits, state.logits), (gradient, state.gradient)))

    def remember(history, newest):
      history = jnp.where(rests[:, None], history, jnp.roll(history, 1, 0).at[0].set(newest))
      return jnp.where(worse[:, None], 0.0, history)

    count = state.count + 1
    done |= active & ((worse & state.fresh) | (count >= iterations))
    hessian = jax.lax.cond(
        done.any() | (state.clock % REFRESH == REFRESH - 1),
        lambda: backward(square, link.value(logits, target)[2]), lambda: state.hessian)
    state = state._replace(
        u=u, logits=logits, gradient=gradient, loss=jnp.where(worse, state.loss, loss),
        hessian=hessian, fresh=worse, count=count, clock=state.clock + 1,
        steps=remember(state.steps, step),
        changes=remember(state.changes, gradient - state.gradient))
    return jax.lax.cond(done.any(), lambda: turn_over(state, done), lambda: state)

  def turn_over(state, done):
    """Stores what is done, and gives its slots the penalties that come next."""
    place = jnp.where(done, state.index, P)
    index = jnp.where(done, jnp.minimum(state.coming + jnp.cumsum(done) - 1, P), state.index)
    change = l2_of(index) - l2_of(state.index)
    return state._replace(
        found=state.found.at[place].set(state.u.swapaxes(0, 1), mode="drop"),
        losses=state.losses.at[place].set(state.loss, mode="drop"),
        counts=state.counts.at[place].set(state.count, mode="drop"),
        loss=state.loss + 0.5 * dot(change * state.u, state.u),
        gradient=state.gradient + change * state.u,
        changes=state.changes + change * state.steps,
        index=index, count=jnp.where(done, 0, state.count), fresh=state.fresh & ~done,
        coming=state.coming + jnp.sum(done))

  first = jnp.arange(S)
  u = jnp.zeros((R, S, C)) if u is None else jnp.broadcast_to(u[:, None], (R, S, C))
  logits = forward(u)
  loss, error, curvature = link.value(logits, target)
  penalty, history = l2_of(first), jnp.zeros((HISTORY, R, S, C))
  state = _State(
      u=u, logits=logits, loss=loss + 0.5 * dot(penalty * u, u),
      gradient=backward(x, error) + penalty * u, hessian=backward(square, curvature),
      steps=history, changes=history, fresh=jnp.ones(S, bool), index=first,
      count=jnp.zeros(S, jnp.int32), coming=jnp.int32(S), clock=jnp.int32(0),
      found=jnp.zeros((P, R, C)), losses=jnp.zeros(P), counts=jnp.zeros(P, jnp.int32))
  return jax.lax.while_loop(lambda s: (s.index < P).any(), advance, state)
