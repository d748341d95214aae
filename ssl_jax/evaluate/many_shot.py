"""Many-shot linear transfer: logistic regression on frozen features over 45 L2 penalties.

Ericsson, Gouk, Hospedales 2021, arXiv:2011.13377, appendix A.2 and code, after Kornblith et al.
2018, arXiv:1805.08974: features as they are, 45 penalties, choice on validation images, a refit to
training and validation images, one score on the test images.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from ssl_jax.errors import UserError
from ssl_jax.evaluate.logistic import EXACT, Linear
from ssl_jax.evaluate.metrics import METRICS, interval
from ssl_jax.evaluate.path import SIGMOID, SOFTMAX, Link, regularisation_path

GRID = tuple(float(v) for v in 10 ** np.linspace(-6, 5, 45))  # 1/C of scikit-learn, ascending


class Labelled(NamedTuple):
  """Features f32[N, F] and target bool[N, C], the classes of each image."""

  features: np.ndarray
  target: np.ndarray


def labelled(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Labelled:
  """Images of one class each; those with a negative label are left out."""
  keep = labels >= 0
  return Labelled(np.asarray(features)[keep], labels[keep, None] == np.arange(num_classes))


class Fit(NamedTuple):
  """P linear classifiers, penalty by penalty: kernel [P, F, C], bias [P, C], objective [P]."""

  kernel: np.ndarray
  bias: np.ndarray
  loss: np.ndarray


# (data, penalties [P] ascending, link, warm start) -> Fit
Solver = Callable[[Labelled, np.ndarray, Link, Fit | None], Fit]


def converged(data: Labelled, l2: np.ndarray, link: Link, start: Fit | None, *,
              slots: int = 1) -> Fit:
  """The minima themselves: see `regularisation_path`, which goes from strong to weak."""
  first = None if start is None else Linear(
      jnp.asarray(start.kernel[-1:]), jnp.asarray(start.bias[-1:]), jnp.zeros(1), jnp.int32(0))
  found, _ = regularisation_path(data.features, data.target, jnp.asarray(l2[::-1]), link=link,
                                 slots=slots, start=first)
  return Fit(*(np.asarray(v)[::-1] for v in (found.kernel, found.bias, found.loss)))


def sklearn_path(data: Labelled, l2: np.ndarray, link: Link, start: Fit | None) -> Fit:
  """Where the original's solver stops: SciPy's L-BFGS-B, 100 iterations, from weak to strong.

  scikit-learn 0.22's LogisticRegression(solver="lbfgs", warm_start=True): at most 100 iterations,
  a largest gradient of 1e-4 of the sum of losses, each penalty from where the one before it
  stopped, the first from zero, the refit from the last. A hundred iterations seldom converge where
  the penalty is weak, so these figures belong to the path as much as to the penalty. The objective
  is computed on the device in f32 where scikit-learn has the features' type. With several classes
  an image the originals' problems follow each other, each from the one before it; here each class
  starts from its own.
  """
  x, target = jnp.asarray(data.features, jnp.float32), jnp.asarray(data.target)
  shape = (x.shape[1] + 1, target.shape[1])
  at = np.zeros(shape) if start is None else np.vstack([start.kernel[-1], start.bias[-1:]])
  rows, losses = [], []
  for penalty in l2:
    def both(u, penalty=penalty):
      loss, gradient = _objective(jnp.asarray(u.reshape(shape), jnp.float32), x, target, penalty,
                                  link=link)
      return float(loss), np.asarray(gradient, np.float64).ravel()
    end = scipy.optimize.minimize(both, at.ravel(), jac=True, method="L-BFGS-B",
                                  options={"maxiter": 100, "gtol": 1e-4})
    at = end.x.reshape(shape)
    rows.append(at)
    losses.append(end.fun)
  u = np.stack(rows).astype(np.float32)
  return Fit(u[:, :-1], u[:, -1], np.asarray(losses))


@partial(jax.jit, static_argnames="link")
def _objective(u, x, target, penalty, *, link):
  loss, error, _ = link.value(
      (jnp.matmul(x, u[:-1], precision=EXACT) + u[-1])[:, None], target[:, None])
  gradient = jnp.concatenate([
      jnp.matmul(x.T, error[:, 0], precision=EXACT) + penalty * u[:-1], error.sum(0)])
  return loss[0] + 0.5 * penalty * jnp.sum(u[:-1]**2), gradient


SOLVERS: dict[str, Solver] = {"converged": converged, "sklearn_path": sklearn_path}


class Transfer(NamedTuple):
  """What `many_shot` returns.

  Attributes:
    value: The metric on the test images, in percent.
    interval: Half the width of its 95 % interval over draws of test images, or None.
    l2: The chosen penalty.
    validation: The metric of every penalty on the validation images, f64[P].
    logits: f32[M, C] of the test images.
    probabilities: f32[M, C] of the test images.
    kernel: f32[F, C] of the refitted classifier.
    bias: f32[C].
  """

  value: float
  interval: float | None
  l2: float
  validation: np.ndarray
  logits: np.ndarray
  probabilities: np.ndarray
  kernel: np.ndarray
  bias: np.ndarray


def many_shot(train: Labelled, validation: Labelled, test: Labelled, *, metric: str = "top1",
              solver: Solver = converged, grid: tuple[float, ...] = GRID) -> Transfer:
  """Chooses a penalty on validation images, fits again to all, scores once on test images.

  Among equal candidates the weakest penalty wins, as in the original. For "map11", where an image
  may have several classes, each class is a binary problem of its own with one penalty for all; half
  of it stands beside the sum of losses, since scikit-learn's binary case pays for two mirrored rows
  of weights, so that 1/l2 is its C there too.

  Args:
    train: What the candidates are fitted to.
    validation: What judges them.
    test: What the chosen one is scored on.
    metric: One of `METRICS`.
    solver: One of `SOLVERS`.
    grid: The penalties, beside the *sum* of losses; the intercept is free.

  Raises:
    UserError: A part is empty, or the metric is for one class an image and there are several.
  """
  for name, part in (("train", train), ("validation", validation), ("test", test)):
    if not len(part.features):
      raise UserError(f"the {name} part holds no labelled image; give it some")
    if metric != "map11" and (part.target.sum(axis=1) != 1).any():
      raise UserError(f"metric {metric} is for images of one class, and some of the {name} part "
                      "have none or several; use map11")
  link, share = (SIGMOID, 0.5) if metric == "map11" else (SOFTMAX, 1.0)
  penalties = np.sort(np.asarray(grid))
  tried = solver(train, share * penalties, link, None)
  judged = np.array([METRICS[metric](_scores(tried, i, validation), validation.target)
                     for i in range(len(penalties))])
  best = int(judged.argmax())
  # The converged solution is the same from anywhere, so it starts near; the original's refit
  # starts where its sweep ended.
  place = -1 if solver is sklearn_path else best
  start = Fit(*(v[place][None] for v in tried))
  both = Labelled(*(np.concatenate(pair) for pair in zip(train, validation)))
  final = solver(both, share * penalties[best:best + 1], link, start)
  logits = _scores(final, 0, test)
  spread = jax.nn.sigmoid if link is SIGMOID else jax.nn.softmax
  return Transfer(METRICS[metric](logits, test.target), interval(metric, logits, test.target),
                  float(penalties[best]), judged, logits, np.asarray(spread(logits)),
                  final.kernel[0], final.bias[0])


def _scores(fit: Fit, i: int, data: Labelled) -> np.ndarray:
  return np.asarray(_logits(data.features, fit.kernel[i], fit.bias[i]))


@jax.jit
def _logits(x, kernel, bias):
  return jnp.matmul(x, kernel, precision=EXACT) + bias
