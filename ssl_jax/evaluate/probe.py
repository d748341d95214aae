"""The augmented SGD probe: a linear classifier on a frozen encoder, at several learning rates.

All learning rates of the sweep are trained at once, as an axis of the classifier: an image is
augmented and encoded once for all of them.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssl_jax.errors import UserError
from ssl_jax.losses import accuracy, cross_entropy
from ssl_jax.optim import scaled_learning_rate, sgd, weights
from ssl_jax.schedules import step_decay, warmup_cosine
from ssl_jax.types import Array, Batch, Metrics, Schedule


class Recipe(NamedTuple):
  """How a paper trains its linear classifier.

  Attributes:
    learning_rates: The sweep, for 256 images; scaled by batch size / 256.
    batch_size: Images per step in the paper.
    epochs: Length in the paper.
    curve: Total steps -> a schedule that starts at 1.
    nesterov: Whether the momentum of 0.9 is Nesterov's.
    weight_decay: On the kernel.
    init: (key, (F, C)) -> the first kernel; the bias starts at 0.
  """

  learning_rates: tuple[float, ...]
  batch_size: int
  epochs: int
  curve: Callable[[int], Schedule]
  nesterov: bool
  weight_decay: float
  init: Callable[[Array, tuple[int, int]], Array]


def _cosine(total: int) -> Schedule:
  return warmup_cosine(1.0, warmup=0, total=total)


def _steps(*percents: int, factor: float = 0.1) -> Callable[[int], Schedule]:
  return lambda total: step_decay(
      1.0, boundaries=tuple(p * total // 100 for p in percents), factor=factor)


def _zeros(key: Array, shape: tuple[int, int]) -> Array:
  del key
  return jnp.zeros(shape)


def _normal(key: Array, shape: tuple[int, int]) -> Array:
  return 0.01 * jax.random.normal(key, shape)


def _truncated(key: Array, shape: tuple[int, int]) -> Array:
  """Haiku's default: a normal distribution cut at two deviations, over sqrt(F)."""
  return jax.random.truncated_normal(key, -2.0, 2.0, shape) / math.sqrt(shape[0])


def _uniform(key: Array, shape: tuple[int, int]) -> Array:
  """Torch's default for a linear layer: uniform up to 1 / sqrt(F)."""
  return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) / math.sqrt(shape[0])


RECIPES = {
  # He et al. 2019, arXiv:1911.05722, section 4.1: rate 30, x 0.1 at epochs 60 and 80 of 100.
  "moco": Recipe((30.0,), 256, 100, _steps(60, 80), False, 0.0, _normal),
  # Chen et al. 2020, arXiv:2002.05709, appendix B.6 and code: rate 0.1, Nesterov, zeros, 1e-6.
  "simclr": Recipe((0.1,), 4096, 90, _cosine, True, 1e-6, _zeros),
  # Grill et al. 2020, arXiv:2006.07733, appendix C.1: five rates, the best of a validation part.
  "byol": Recipe((0.4, 0.3, 0.2, 0.1, 0.05), 1024, 80, _cosine, True, 0.0, _truncated),
  # Tomasev et al. 2022, arXiv:2201.05119, code: rate 0.3 for 100 epochs.
  "relicv2": Recipe((0.3,), 1024, 100, _cosine, True, 0.0, _truncated),
  # Khosla et al. 2020, arXiv:2004.11362, code for CIFAR: rate 5 at batch 512, which is 2.5 for
  # 256 images; x 0.2 at epochs 60, 75 and 90 of 100.
  "supcon": Recipe((2.5,), 512, 100, _steps(60, 75, 90, factor=0.2), False, 0.0, _uniform),
}


class Heads(NamedTuple):
  """L linear classifiers, one per learning rate."""

  kernel: Array  # f32[L, F, C]
  bias: Array  # f32[L, C]

  def logits(self, features: Array) -> Array:
    """Scores f32[L, B, C] of features [B, F]."""
    return jnp.einsum("bf,lfc->lbc", features, self.kernel) + self.bias[:, None]


class ProbeState(NamedTuple):
  """What a probe's step changes; the encoder is not among it."""

  heads: Heads
  opt_state: Any
  step: Array  # i32[]


def probe(recipe: Recipe, encode: Callable[[Any, Array], Array],
          view: Callable[[Array, Batch], Array], *, num_features: int, num_classes: int,
          total_steps: int, batch_size: int, learning_rates: tuple[float, ...] | None = None):
  """Returns (init, step) of a probe: pure functions to be jitted.

  Args:
    recipe: How to train, one of `RECIPES`.
    encode: (variables, images f32[B,h,w,3]) -> features [B, F], in evaluation mode.
    view: (key, batch) -> augmented images.
    num_features: F.
    num_classes: C.
    total_steps: Length of the schedule.
    batch_size: B, by which the learning rates are scaled.
    learning_rates: L rates for 256 images, instead of the recipe's.

  Returns:
    `init(key) -> ProbeState` and `step(key, variables, state, batch) -> (state, metrics)`, where
    key is the root key of all steps, and metrics are "loss" f32[L] and "top1" f32[L] in percent.
  """
  rates = jnp.array([scaled_learning_rate(r, batch_size, "linear")
                     for r in learning_rates or recipe.learning_rates])
  optimizer = sgd(recipe.curve(total_steps), weight_decay=recipe.weight_decay, momentum=0.9,
                  nesterov=recipe.nesterov, decayed=weights)

  def init(key: Array) -> ProbeState:
    kernel = recipe.init(key, (num_features, num_classes))
    heads = Heads(jnp.tile(kernel, (len(rates), 1, 1)), jnp.zeros((len(rates), num_classes)))
    return ProbeState(heads, optimizer.init(heads), jnp.zeros((), jnp.int32))

  def step(key: Array, variables: Any, state: ProbeState, batch: Batch
           ) -> tuple[ProbeState, Metrics]:
    images = view(jax.random.fold_in(key, state.step), batch)
    features = encode(variables, images).astype(jnp.float32)

    def loss(heads):
      logits = heads.logits(features)
      losses = jax.vmap(cross_entropy, (0, None))(logits, batch["label"])
      return losses.sum(), (losses, logits)  # a sum: each head has its own loss's gradient

    gradients, (losses, logits) = jax.grad(loss, has_aux=True)(state.heads)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.heads)
    # SGD is linear in its rate, so a rate per head is a factor per head.
    updates = Heads(updates.kernel * rates[:, None, None], updates.bias * rates[:, None])
    heads = optax.apply_updates(state.heads, updates)
    top1 = jax.vmap(accuracy, (0, None))(logits, batch["label"])
    return ProbeState(heads, opt_state, state.step + 1), {"loss": losses, "top1": top1}

  return init, step


def judge(heads: Heads, encode: Callable[[Batch], Array], batches: Iterable[Batch]
          ) -> dict[str, np.ndarray]:
  """Scores every head in one pass over a data set.

  Args:
    heads: L classifiers.
    encode: Batch -> features [B, F], jitted, with the evaluation's preprocessing inside.
    batches: One ordered pass; rows with a false "valid" or a negative label do not count.

  Returns:
    {"top1": f64[L], "top5": f64[L]} in percent.
  """
  total, hits = 0, np.zeros((2, heads.bias.shape[0]))
  for batch in batches:
    labels = np.asarray(batch["label"])
    labels = np.where(np.asarray(batch.get("valid", True)), labels, -1)
    count = int((labels >= 0).sum())
    total += count
    hits += count * np.asarray(_accuracies(heads, encode(batch), labels), np.float64)
  top1, top5 = hits / max(total, 1)
  return {"top1": top1, "top5": top5}


@jax.jit
def _accuracies(heads: Heads, features: Array, labels: Array) -> Array:
  logits = heads.logits(features.astype(jnp.float32))
  each = jax.vmap(accuracy, (0, None, None))
  return jnp.stack([each(logits, labels, k) for k in (1, 5)])


def sgd_probe(recipe: Recipe, encode: Callable[[Any, Array], Array], variables: Any,
              view: Callable[[Array, Batch], Array], encode_batch: Callable[[Batch], Array],
              train: Iterator[Batch], validation: Iterable[Batch], test: Iterable[Batch], *,
              key: Array, num_classes: int, total_steps: int, batch_size: int,
              learning_rates: tuple[float, ...] | None = None,
              report: Callable[[int, Metrics], None] = lambda step, metrics: None
              ) -> dict[str, Any]:
  """Trains a linear classifier per learning rate and scores the best of them on the test set.

  The best is the one with the highest accuracy on the validation part; only that one sees the test
  set. The encoder is an argument of pure functions: nothing of it can change.

  Args:
    recipe: How to train, one of `RECIPES`.
    encode: (variables, images) -> features [B, F], in evaluation mode.
    variables: The frozen encoder.
    view: (key, batch) -> augmented images.
    encode_batch: Batch -> features, jitted, with the evaluation's preprocessing.
    train: Batches without end, without the validation part.
    validation: One pass over the part of the training set that chooses.
    test: One pass over the test set.
    key: The root key.
    num_classes: C.
    total_steps: How long to train.
    batch_size: B.
    learning_rates: L rates for 256 images, instead of the recipe's.
    report: Called with (step, metrics) after each step; metrics stay on the device.

  Returns:
    {"top1", "top5": percent on the test set, "learning_rate": the chosen one for 256 images,
    "validation_top1": {rate: percent}, "heads": the chosen `Heads`, L = 1}.

  Raises:
    UserError: If every classifier diverged.
  """
  rates = learning_rates or recipe.learning_rates
  first = next(train)
  images = jax.eval_shape(view, key, first)
  num_features = jax.eval_shape(encode, variables, images).shape[-1]
  init, step = probe(recipe, encode, view, num_features=num_features, num_classes=num_classes,
                     total_steps=total_steps, batch_size=batch_size, learning_rates=rates)
  state, step = jax.jit(init)(jax.random.fold_in(key, total_steps)), jax.jit(step, donate_argnums=2)
  batch = first
  for i in range(total_steps):
    state, metrics = step(key, variables, state, batch)
    report(i + 1, metrics)
    if i + 1 < total_steps:
      batch = next(train)
  if not np.isfinite(np.asarray(metrics["loss"])).any():
    raise UserError(f"the probe diverged at every learning rate of {rates}; give smaller ones")
  judged = judge(state.heads, encode_batch, validation)["top1"]
  best = int(np.argmax(judged))
  heads = jax.tree.map(lambda x: x[best:best + 1], state.heads)
  scores = judge(heads, encode_batch, test)
  return {"top1": float(scores["top1"][0]), "top5": float(scores["top5"][0]),
          "learning_rate": rates[best], "heads": heads,
          "validation_top1": {str(r): float(v) for r, v in zip(rates, judged)}}
