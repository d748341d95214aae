"""Multinomial logistic regression with an L2 penalty, many problems at a time on the device."""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from ssl_jax.types import Array

HISTORY = 10  # pairs that L-BFGS keeps; scipy's default
LINE_STEPS = 3  # Newton steps of the line search; the first is mostly enough
EXACT = jax.lax.Precision.HIGHEST  # TF32 or bf16 gradients would end the descent early


class Linear(NamedTuple):
  """P linear classifiers, features -> logits."""

  kernel: Array  # f32[P, F, C]
  bias: Array  # f32[P, C]
  loss: Array  # f32[P], the objective at the end
  iterations: Array  # i32[], that the slowest problem took

  def logits(self, features: Array) -> Array:
    """Scores f32[P, N, C] of features [N, F]."""
    return jnp.einsum("nf,pfc->pnc", features, self.kernel, precision=EXACT) + self.bias[:, None]


@partial(jax.jit, static_argnames=("num_classes", "iterations"))
def logistic_regression(features: Array, labels: Array, l2: Array, *, num_classes: int,
                        weights: Array | None = None, iterations: int = 300,
                        tolerance: float = 1e-6) -> Linear:
  """Minimises l2 |W|^2 / 2 + sum_n weights_n CE(x_n W + b, y_n) for P values of l2 at once.

  The penalty stands beside the *sum* of losses and leaves the intercept out: l2 is 1 / C of
  scikit-learn's LogisticRegression, whose solution this is. Features are used as they are.

  The solver is L-BFGS (Nocedal and Wright 2006, algorithm 7.4), made quick by what this problem
  is: in the principal axes of the features, which leave the penalty as it is, the Hessian is
  nearly diagonal, so its diagonal preconditions; and logits are linear along a search direction,
  so a line search costs no product with the features.

  Args:
    features: [N, F].
    labels: i32[N] in [0, C).
    l2: f32[P], each > 0.
    num_classes: C.
    weights: f32[N] or f32[P, N], how often an example counts; 0 leaves it out. None is 1.
    iterations: The most that will be made.
    tolerance: A problem is done when the decrease it can expect falls below this share of its
      objective.

  Returns:
    The P classifiers.
  """
  x, axes, mean = principal_axes(features)
  return in_features(
      descend(x, labels, l2, num_classes=num_classes, weights=weights, iterations=iterations,
              tolerance=tolerance), axes, mean)


def in_features(found: Linear, axes: Array, mean: Array) -> Linear:
  """Turns classifiers of `principal_axes` into classifiers of the features themselves."""
  kernel = jnp.einsum("fr,prc->pfc", axes, found.kernel, precision=EXACT)
  bias = found.bias - jnp.einsum("f,pfc->pc", mean, kernel, precision=EXACT)
  return found._replace(kernel=kernel, bias=bias)


def principal_axes(features: Array) -> tuple[Array, Array, Array]:
  """Rotates rows to their principal axes.

  With an L2 penalty and a free intercept the optimum is the same, and has no part outside the
  span of the rows: nothing is lost where N < F.

  Args:
    features: [N, F].

  Returns:
    `x = (features - mean) @ axes` [N, R], `axes` [F, R] and `mean` [F], with R = min(N, F).
  """
  mean = jnp.mean(features, axis=0, dtype=jnp.float32)
  x = features.astype(jnp.float32) - mean
  if x.shape[0] < x.shape[1]:
    axes = jnp.linalg.svd(x, full_matrices=False)[2].T
  else:
    _, axes = jnp.linalg.eigh(jnp.matmul(x.T, x, precision=EXACT))
  return jnp.matmul(x, axes, precision=EXACT), axes, mean


class _State(NamedTuple):
  u: Array  # [R+1, P, C], the last row being the intercept
  logits: Array  # [N, P, C]
  gradient: Array  # [R+1, P, C]
  inverse: Array  # [R+1, P, C], of the Hessian's diagonal
  loss: Array  # [P]
  steps: Array  # [M, R+1, P, C], newest first
  changes: Array  # [M, R+1, P, C], of the gradient
  done: Array  # bool[P]
  count: Array  # i32[]


def descend(x: Array, labels: Array, l2: Array, *, num_classes: int,
            weights: Array | None = None, start: Linear | None = None, iterations: int = 300,
            tolerance: float = 1e-6) -> Linear:
  """`logistic_regression` of rows that are centred and in their principal axes already.

  `start` gives the P classifiers to start from; None starts from zero.
  """
  chex.assert_rank([x, labels, l2], [2, 1, 1])
  N, P, C = x.shape[0], l2.shape[0], num_classes
  weight = jnp.broadcast_to(jnp.ones(()) if weights is None else weights, (P, N)).T
  x = jnp.concatenate([x, jnp.ones((N, 1))], axis=1)
  square = x * x
  target = jax.nn.one_hot(labels, C)[:, None]  # [N, 1, C]
  penalty = jnp.broadcast_to(l2, (x.shape[1], P)).at[-1].set(0.0)[..., None]  # [R+1, P, 1]
  # Where all examples are certain the Hessian vanishes; a hundredth of its bound for softmax,
  # 1/2 (Boehning 1992), keeps the preconditioner finite.
  least = 0.005 * jnp.einsum("nr,np->rp", square, weight)[..., None] + penalty + 1e-6

  def forward(u):
    return jnp.einsum("nr,rpc->npc", x, u, precision=EXACT)

  def evaluate(u, logits):
    """The objective [P], its gradient and the inverse of its Hessian's diagonal [R+1, P, C]."""
    log_prob = jax.nn.log_softmax(logits)
    loss = -jnp.sum(weight[..., None] * target * log_prob, axis=(0, 2))
    p = jnp.exp(log_prob)
    error = weight[..., None] * (p - target)
    gradient = jnp.einsum("nr,npc->rpc", x, error, precision=EXACT) + penalty * u
    hessian = jnp.einsum("nr,npc->rpc", square, weight[..., None] * p * (1 - p))
    return loss + 0.5 * dot(penalty * u, u), gradient, 1.0 / (hessian + least)

  def line_search(u, logits, direction, slope):
    """The minimum along the direction, by Newton's method in one convex variable."""
    quadratic = dot(penalty * direction, direction)
    linear = dot(penalty * u, direction)

    def newton(_, t):
      p = jax.nn.softmax(logits + t[:, None] * slope)
      mean = jnp.sum(p * slope, axis=-1)
      first = jnp.sum(weight * (mean - jnp.sum(target * slope, -1)), 0) + linear + t * quadratic
      second = jnp.sum(weight * (jnp.sum(p * slope**2, -1) - mean**2), 0) + quadratic
      return jnp.clip(t - first / jnp.maximum(second, 1e-30), 0.1 * t, 10.0 * t)

    return jax.lax.fori_loop(0, LINE_STEPS, newton, jnp.ones(P))

  def advance(state):
    direction = -two_loops(state.gradient, state.steps, state.changes, state.inverse)
    expected = -dot(state.gradient, direction)
    done = state.done | (expected <= tolerance * state.loss)
    slope = forward(direction)
    t = jnp.where(done, 0.0, line_search(state.u, state.logits, direction, slope))
    step = t[:, None] * direction
    u, logits = state.u + step, state.logits + t[:, None] * slope
    loss, gradient, inverse = evaluate(u, logits)
    # In f32 the objective stops falling a little above its minimum: that is the end, too.
    worse = ~(loss < state.loss)
    keep = lambda new, old: jnp.where(worse[:, None], old, new)
    u, logits, gradient = keep(u, state.u), keep(logits, state.logits), keep(
        gradient, state.gradient)
    change = gradient - state.gradient
    return _State(
        u, logits, gradient, inverse, jnp.where(worse, state.loss, loss),
        jnp.roll(state.steps, 1, 0).at[0].set(step),
        jnp.roll(state.changes, 1, 0).at[0].set(change), done | worse, state.count + 1)

  u = jnp.zeros((x.shape[1], P, C))
  if start is not None:
    u = jnp.concatenate([start.kernel.swapaxes(0, 1), start.bias[None]])
  logits = forward(u)
  loss, gradient, inverse = evaluate(u, logits)
  history = jnp.zeros((HISTORY, *u.shape))
  first = _State(
      u, logits, gradient, inverse, loss, history, history, jnp.zeros(P, bool), jnp.int32(0))
  end = jax.lax.while_loop(lambda s: ~s.done.all() & (s.count < iterations), advance, first)
  return Linear(end.u[:-1].swapaxes(0, 1), end.u[-1], end.loss, end.count)


def dot(a: Array, b: Array) -> Array:
  """The inner product of each of the P problems: two [R, P, C] -> [P]."""
  return jnp.einsum("rpc,rpc->p", a, b, precision=EXACT)


def two_loops(gradient: Array, steps: Array, changes: Array, precondition: Array) -> Array:
  """L-BFGS's estimate of the inverse Hessian times the gradient; empty pairs have no effect."""
  curvatures = jax.vmap(dot)(steps, changes)  # [M, P]
  rho = jnp.where(curvatures > 0, 1.0 / jnp.maximum(curvatures, 1e-30), 0.0)

  def backward(q, pair):
    step, change, r = pair
    alpha = r * dot(step, q)
    return q - alpha[:, None] * change, alpha

  def forward(q, pair):
    step, change, r, alpha = pair
    return q + step * (alpha - r * dot(change, q))[:, None], None

  q, alphas = jax.lax.scan(backward, gradient, (steps, changes, rho))
  latest = curvatures[0] / jnp.maximum(dot(changes[0], precondition * changes[0]), 1e-30)
  q = precondition * q * jnp.where(rho[0] > 0, latest, 1.0)[:, None]
  return jax.lax.scan(forward, q, (steps, changes, rho, alphas), reverse=True)[0]
