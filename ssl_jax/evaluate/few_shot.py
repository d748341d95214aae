"""Few-shot episodes on frozen features, all episodes of a data set in one program."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.evaluate.logistic import EXACT, descend
from ssl_jax.types import Array

AT_ONCE = 20  # episodes that are computed together


class Episodes(NamedTuple):
  """E episodes of W classes with K support and Q query images each.

  Attributes:
    classes: i32[E, W].
    support: i32[E, W, K], rows of the features.
    query: i32[E, W, Q].
    dropped: i32[D], classes with fewer than K + Q images, from which nothing is drawn.
  """

  classes: np.ndarray
  support: np.ndarray
  query: np.ndarray
  dropped: np.ndarray


def draw_episodes(labels: np.ndarray, *, ways: int = 5, shots: int = 5, queries: int = 15,
                  episodes: int = 600, seed: int = 0) -> Episodes:
  """Draws classes without replacement, and of each K + Q different images.

  Ericsson et al. 2021, arXiv:2011.13377, appendix A.3 and code: 5 classes, 15 queries a class, 600
  episodes; every class of every part of a data set takes part. What the original does with classes
  that are too small is not known; here they are left out and told.

  Args:
    labels: i32[N]; a negative label leaves its image out.
    ways: W.
    shots: K.
    queries: Q.
    episodes: E.
    seed: Decides all draws.

  Raises:
    UserError: Fewer than W classes have K + Q images.
  """
  count = np.bincount(labels[labels >= 0])
  large = np.flatnonzero(count >= shots + queries)
  dropped = np.flatnonzero((count > 0) & (count < shots + queries)).astype(np.int32)
  if len(large) < ways:
    raise UserError(f"{len(large)} classes have {shots} + {queries} images, fewer than {ways} ways;"
                    " take fewer shots or more images")
  members = {c: np.flatnonzero(labels == c) for c in large}
  generator = np.random.default_rng(seed)
  classes = np.stack([generator.permutation(large)[:ways] for _ in range(episodes)])
  rows = np.array([[generator.choice(members[c], shots + queries, replace=False) for c in drawn]
                   for drawn in classes])
  return Episodes(classes.astype(np.int32), rows[..., :shots].astype(np.int32),
                  rows[..., shots:].astype(np.int32), dropped)


def nearest_prototype(support: Array, query: Array) -> Array:
  """Scores f32[W, Q, W] of queries [W, Q, F]: minus the squared distance to the classes' means.

  Snell et al. 2017, arXiv:1703.05175, on raw features as in Ericsson et al.'s code.
  """
  means = support.mean(axis=1)
  # |q|^2 is the same for all classes. Centred, so that squares do not swallow differences.
  centre = means.mean(axis=0)
  means, query = means - centre, query - centre
  inner = jnp.einsum("wqf,vf->wqv", query, means, precision=EXACT)
  return 2 * inner - jnp.sum(means**2, axis=-1)


def logistic(support: Array, query: Array) -> Array:
  """Scores f32[W, Q, W] by logistic regression with C = 1 on features of unit length.

  Islam et al. 2021, arXiv:2103.13517 (code): x / (|x| + 1e-6), scikit-learn's L-BFGS with at most
  1,000 iterations; here its minimum. The problem is solved in the span of the support.
  """
  W, K, F = support.shape
  unit = lambda x: x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6)
  x, query = unit(support).reshape(W * K, F), unit(query)
  mean = x.mean(axis=0)
  x, query = x - mean, query - mean
  squares, vectors = jnp.linalg.eigh(jnp.matmul(x, x.T, precision=EXACT))
  kept = squares > 1e-6 * squares[-1]
  length = jnp.sqrt(jnp.where(kept, squares, 1.0))
  z = vectors * jnp.where(kept, length, 0.0)
  turn = jnp.matmul(x.T, vectors * jnp.where(kept, 1.0 / length, 0.0), precision=EXACT)
  found = descend(z, jnp.repeat(jnp.arange(W), K), jnp.ones(1), num_classes=W)
  return jnp.matmul(jnp.matmul(query, turn, precision=EXACT), found.kernel[0],
                    precision=EXACT) + found.bias[0]


CLASSIFIERS: dict[str, Callable[[Array, Array], Array]] = {
  "prototypes": nearest_prototype, "logistic": logistic}


def few_shot(features: Array, episodes: Episodes, *, classifier: str = "prototypes"
             ) -> dict[str, float | np.ndarray]:
  """The accuracy of episodes, in percent.

  Args:
    features: [N, F].
    episodes: Which images; see `draw_episodes`.
    classifier: One of `CLASSIFIERS`.

  Returns:
    {"top1": mean over episodes, "interval": 1.96 std / sqrt(E), half the width of the 95 %
    interval, with the standard deviation of E (not E - 1) as in both papers' codes, "episodes":
    f32[E]}.
  """
  each = 100 * np.asarray(_accuracies(features, episodes.support, episodes.query,
                                      classifier=CLASSIFIERS[classifier]))
  return {"top1": float(each.mean()), "interval": float(1.96 * each.std() / np.sqrt(len(each))),
          "episodes": each}


@partial(jax.jit, static_argnames="classifier")
def _accuracies(features, support, query, *, classifier):
  features = jnp.asarray(features, jnp.float32)

  def one(rows):
    scores = classifier(features[rows[0]], features[rows[1]])
    return jnp.mean(scores.argmax(-1) == jnp.arange(scores.shape[0])[:, None])

  return jax.lax.map(one, (support, query), batch_size=min(AT_ONCE, len(support)))
