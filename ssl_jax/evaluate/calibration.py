"""Whether a classifier's confidence can be believed: calibration error, temperature, diagram."""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.types import Array

BINS = 15  # Ericsson et al. 2020, arXiv:2011.13377, section 4.7; Islam et al. 2021, code
FOLDS = 5
_LOG_RANGE = 7.0  # temperatures from exp(-7) to exp(7)
_HALVINGS = 50  # of that range: more than f32 can tell apart


class Reliability(NamedTuple):
  """A reliability diagram: images sorted by confidence into equal intervals (lo, hi] of [0, 1]."""

  count: Array  # f32[bins], images
  confidence: Array  # f32[bins], their mean confidence; 0 where there are none
  accuracy: Array  # f32[bins], their accuracy in [0, 1]; 0 where there are none


@partial(jax.jit, static_argnames="bins")
def reliability(probabilities: Array, labels: Array, bins: int = BINS) -> Reliability:
  """Sorts images by the probability of the class that they are given.

  Guo et al. 2017, arXiv:1706.04599, section 2.

  Args:
    probabilities: f32[N, C].
    labels: i32[N]; a negative label leaves its image out.
    bins: Number of intervals.
  """
  chex.assert_rank([probabilities, labels], [2, 1])
  confidence = probabilities.max(-1)
  correct = (probabilities.argmax(-1) == labels).astype(jnp.float32)
  place = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
  counts = (labels >= 0).astype(jnp.float32)
  total, sure, right = (jnp.zeros(bins).at[place].add(counts * v)
                        for v in (1.0, confidence, correct))
  return Reliability(total, sure / jnp.maximum(total, 1), right / jnp.maximum(total, 1))


def calibration_error(diagram: Reliability) -> Array:
  """The expected calibration error in percent: |accuracy - confidence|, weighted by images.

  Guo et al. 2017, equation 3.
  """
  gap = jnp.abs(diagram.accuracy - diagram.confidence)
  return 100 * jnp.sum(diagram.count * gap) / jnp.maximum(jnp.sum(diagram.count), 1)


@jax.jit
def fit_temperature(logits: Array, labels: Array) -> Array:
  """The T > 0 that minimises the mean cross-entropy of softmax(logits / T).

  Guo et al. 2017, section 4.2. The loss is convex in 1 / T, so its slope is bisected. Logits that
  are all right have no minimum: they get the least temperature, exp(-7); useless ones, exp(7).

  Args:
    logits: f32[N, C], or log-probabilities, for which T is the same.
    labels: i32[N]; a negative label leaves its image out.

  Returns:
    f32[].
  """
  chex.assert_rank([logits, labels], [2, 1])
  counts = labels >= 0
  own = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], axis=-1)[:, 0]

  def halve(_, ends):
    low, high = ends  # of log(1 / T)
    middle = (low + high) / 2
    expected = jnp.sum(jax.nn.softmax(logits * jnp.exp(middle)) * logits, axis=-1)
    falls = jnp.sum(jnp.where(counts, expected - own, 0.0)) < 0
    return jnp.where(falls, middle, low), jnp.where(falls, high, middle)

  low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (-_LOG_RANGE, _LOG_RANGE))
  return jnp.exp(-(low + high) / 2)


def temperature_scaling(logits: Array, labels: Array, *, folds: int = FOLDS, seed: int = 0
                        ) -> dict[str, float]:
  """Calibration error before and after temperature scaling, by the rule of Ericsson et al. 2020.

  The images are shuffled by `RandomState(seed)` and cut into folds of N // folds, what is left over
  being dropped; T is fitted on each fold and judged on the others (their code,
  temperature_scaling.py). They take the test images for both, so this is a property of the
  classifier, not a promise about new images.

  Args:
    logits: f32[N, C], or log-probabilities.
    labels: i32[N], none negative.
    folds: How many.
    seed: Of the shuffle.

  Returns:
    {"ece": percent on all images, "ece_scaled": mean percent over folds, "temperature": mean T}.

  Raises:
    UserError: There are fewer images than folds.
  """
  logits, labels = np.asarray(logits, np.float32), np.asarray(labels)
  size = len(labels) // folds
  if not size:
    raise UserError(f"{len(labels)} images are too few for {folds} folds of temperature scaling; "
                    f"give at least {folds}")
  order = np.arange(len(labels))
  np.random.RandomState(seed).shuffle(order)
  parts = order[:size * folds].reshape(folds, size)
  errors, temperatures = [], []
  for i in range(folds):
    rest = np.delete(parts, i, axis=0).ravel()
    temperature = fit_temperature(logits[parts[i]], labels[parts[i]])
    errors.append(calibration_error(
        reliability(jax.nn.softmax(logits[rest] / temperature), labels[rest])))
    temperatures.append(temperature)
  return {"ece": float(calibration_error(reliability(jax.nn.softmax(logits), labels))),
          "ece_scaled": float(np.mean(errors)), "temperature": float(np.mean(temperatures))}
