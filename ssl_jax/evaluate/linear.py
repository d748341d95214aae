"""Linear probes of features: all labels, or a few; the penalty chosen without the test set."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.evaluate.logistic import EXACT, Linear, descend, principal_axes
from ssl_jax.losses import accuracy
from ssl_jax.types import Array

# Penalties that are tried, for features of unit variance on average. Raw pixels and encoders on
# 10,000 images of Fashion-MNIST choose from 30 to 300; the grids reach beyond on both sides.
GRID = tuple(float(v) for v in 10 ** np.linspace(0.5, 4.0, 8))
FEW_GRID = tuple(float(v) for v in 10 ** np.linspace(-1.0, 3.5, 10))
FOLDS = 5
ROUGH = 1e-3  # tolerance while penalties are compared; the chosen one is fitted to the end


def linear_probe(train: tuple[Array, Array], test: tuple[Array, Array], *, num_classes: int,
                 seed: int = 0, grid: tuple[float, ...] = GRID, validation: float = 0.2
                 ) -> dict[str, float]:
  """Fits multinomial logistic regression to frozen features and scores it once on the test set.

  The protocol of Kornblith et al. 2018 (arXiv:1805.08974) and Ericsson et al. 2020
  (arXiv:2011.13377): each penalty is fitted to a part of the training set and judged on the rest;
  the best is fitted again to all of it. Features are divided by one number, the root mean square
  of the centred training features, so that a penalty means the same for every encoder.

  Args:
    train: Features [N, F] and labels i32[N]; a negative label leaves its image out.
    test: Features [M, F] and labels i32[M].
    num_classes: C.
    seed: Draws the validation part.
    grid: Penalties l2, each beside the sum of losses: see `logistic_regression`.
    validation: Share of the training set that judges the penalties.

  Returns:
    {"top1": percent on the test set, "l2": the chosen penalty, "validation_top1": percent}.
  """
  x, y = _labelled(train)
  held = round(validation * len(y))
  if not 0 < held < len(y):
    raise UserError(f"validation={validation} of {len(y)} labelled images leaves nothing to fit or "
                    "to judge; give more images")
  order = jax.random.permutation(jax.random.key(seed), len(y))
  grid = sorted(grid)
  top1, best, judged = _probe(x, y, *map(jnp.asarray, test), jnp.asarray(grid), order,
                              num_classes=num_classes, held=held)
  return {"top1": float(top1), "l2": grid[int(best)], "validation_top1": float(judged)}


def few_label_probe(train: tuple[Array, Array], test: tuple[Array, Array], *, num_classes: int,
                    per_class: int = 10, draws: int = 5, seed: int = 0,
                    grid: tuple[float, ...] = FEW_GRID) -> dict[str, float]:
  """Scores logistic regression on a few labels per class, several times over.

  Each draw takes its images at random and chooses its own penalty by stratified cross-validation
  among them (5 folds, the mean log-likelihood of what a fold leaves out): neither the test set nor
  another label is looked at. All draws, folds and penalties are one program.

  Args:
    train: Features [N, F] and labels i32[N], of which each draw sees C per_class.
    test: Features [M, F] and labels i32[M].
    num_classes: C.
    per_class: Labels per class, at least 2.
    draws: How often.
    seed: Draws the images.
    grid: Penalties, as in `linear_probe`.

  Returns:
    {"top1": mean percent over draws, "top1_std": their standard deviation}.

  Raises:
    UserError: If a class has too few images.
  """
  features, labels = (np.asarray(v) for v in train)
  if per_class < 2:
    raise UserError(f"per_class={per_class} leaves nothing to choose the penalty by; give at least "
                    "2")
  generator = np.random.default_rng(seed)
  rows = np.zeros((draws, per_class, num_classes), int)  # so that a fold has all classes
  for c in range(num_classes):
    members = np.flatnonzero(labels == c)
    if len(members) < per_class:
      raise UserError(f"class {c} has {len(members)} images, fewer than per_class={per_class}")
    for draw in range(draws):
      rows[draw, :, c] = generator.choice(members, per_class, replace=False)
  rows = rows.reshape(draws, -1)
  fold = np.repeat(np.arange(per_class), num_classes) % min(FOLDS, per_class)
  top1 = np.asarray(_few(features[rows], labels[rows], *map(jnp.asarray, test),
                         jnp.asarray(sorted(grid)), fold, num_classes=num_classes,
                         folds=min(FOLDS, per_class)))
  return {"top1": float(top1.mean()), "top1_std": float(top1.std(ddof=1)) if draws > 1 else 0.0}


@partial(jax.jit, static_argnames=("num_classes", "held"))
def _probe(x, y, test_x, test_y, grid, order, *, num_classes, held):
  z, to_axes = _standard_axes(x)
  judge, fit = order[:held], order[held:]
  tried = descend(z[fit], y[fit], grid, num_classes=num_classes, tolerance=ROUGH)
  judged = jax.vmap(accuracy, (0, None))(tried.logits(z[judge]), y[judge])
  best = len(grid) - 1 - jnp.argmax(judged[::-1])  # the strongest of equals
  start = jax.tree.map(lambda v: v[best][None], (tried.kernel, tried.bias, tried.loss))
  final = descend(z, y, grid[best][None], num_classes=num_classes,
                  start=Linear(*start, tried.iterations))
  return accuracy(final.logits(to_axes(test_x))[0], test_y), best, judged[best]


@partial(jax.jit, static_argnames=("num_classes", "folds"))
def _few(x, y, test_x, test_y, grid, fold, *, num_classes, folds):
  """The test accuracies f32[draws] of drawn features x [draws, n, F] and labels y [draws, n]."""
  P = len(grid)
  fitted = (fold != jnp.arange(folds)[:, None]).astype(jnp.float32)  # [folds, n]

  def one(x, y):
    z, to_axes = _standard_axes(x)
    tried = descend(z, y, jnp.tile(grid, folds), num_classes=num_classes, tolerance=ROUGH,
                    weights=jnp.repeat(fitted, P, axis=0))
    log_prob = jax.nn.log_softmax(tried.logits(z))  # [folds P, n, C]
    own = jnp.take_along_axis(log_prob, y[None, :, None], axis=-1).reshape(folds, P, -1)
    best = jnp.argmax(jnp.sum(own * (1 - fitted)[:, None], axis=(0, 2)))
    final = descend(z, y, grid[best][None], num_classes=num_classes)
    return accuracy(final.logits(to_axes(test_x))[0], test_y)

  return jax.vmap(one)(x, y)


def _standard_axes(x: Array):
  """Rows scaled to unit variance on average, in their principal axes, and how others follow."""
  z, axes, mean = principal_axes(x)
  scale = jnp.sqrt(jnp.maximum(jnp.sum(z**2) / x.size, 1e-12))
  return z / scale, lambda other: jnp.matmul(
      (other.astype(jnp.float32) - mean) / scale, axes, precision=EXACT)


def _labelled(data: tuple[Array, Array]) -> tuple[Array, Array]:
  features, labels = (np.asarray(v) for v in data)
  keep = labels >= 0
  return jnp.asarray(features[keep]), jnp.asarray(labels[keep])
