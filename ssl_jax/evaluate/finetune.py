"""Fine-tuning a pretrained backbone with a classifier: the protocols as data, the step as maths."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssl_jax.evaluate.metrics import METRICS
from ssl_jax.losses import cross_entropy
from ssl_jax.models import Network, linear_head
from ssl_jax.models.classifier import NormedLinear
from ssl_jax.optim import sgd
from ssl_jax.schedules import constant, step_decay, warmup_cosine
from ssl_jax.types import Array, Batch, Params, Schedule


class Candidate(NamedTuple):
  """One point of a grid; `weight_decay` is what the optimizer gets."""

  learning_rate: float
  weight_decay: float
  batch_size: int
  augmented: bool = True


class Protocol(NamedTuple):
  """How a paper fine-tunes.

  Attributes:
    words: What it is, in a sentence.
    candidates: The grid, in the order in which the first of equals wins.
    tuning: Length of a candidate's run: ("steps" or "epochs", number).
    final: Length of the last run.
    curve: (total steps, steps per epoch) -> a schedule that starts at 1.
    head: C -> the classifier.
    nesterov: Whether the momentum of 0.9 is Nesterov's.
    whole: Whether the backbone is trained too; else it is frozen, in evaluation mode.
    crop: (least area of a random crop, interpolation, share of the side that evaluation resizes to
      and whether it keeps the aspect).
    refit: Whether the last run has the validation images too.
  """

  words: str
  candidates: tuple[Candidate, ...]
  tuning: tuple[str, int]
  final: tuple[str, int]
  curve: Callable[[int, int], Schedule]
  head: Callable[[int], Any]
  nesterov: bool
  whole: bool
  crop: tuple[float, str, float, bool]
  refit: bool = True


def _cosine(total: int, per_epoch: int) -> Schedule:
  del per_epoch
  return warmup_cosine(1.0, warmup=0, total=total)


def _halves(total: int, per_epoch: int) -> Schedule:
  """x 0.1 after a half and after three quarters of the epochs, rounded down."""
  epochs = max(round(total / per_epoch), 1)
  return step_decay(1.0, boundaries=(per_epoch * (epochs // 2), per_epoch * (3 * epochs // 4)))


def _flat(total: int, per_epoch: int) -> Schedule:
  del total, per_epoch
  return constant(1.0)


# Ericsson et al. 2021, arXiv:2011.13377, appendix A.2 and code: learning rates from large to
# small, nominal decays from small to large; the optimizer's decay is the nominal one over the rate.
# The paper chooses by validation whether crops are random, too.
ERICSSON = tuple(
    Candidate(rate, decay / rate, 64, augmented)
    for augmented in (True, False) for rate in (1e-1, 1e-2, 1e-3, 1e-4)
    for decay in (0.0, 1e-6, 1e-5, 1e-4, 1e-3))
# Islam et al. 2021, arXiv:2103.13517 (code): twelve points.
ISLAM = tuple(Candidate(rate, decay, batch_size)
              for rate, batch_size, decay in itertools.product(
                  (0.01, 0.001), (128, 32), (0.0, 1e-4, 1e-5)))
_ISLAM = {"candidates": ISLAM, "tuning": ("epochs", 20), "final": ("epochs", 50), "curve": _halves,
          "nesterov": False, "crop": (0.2, "bilinear", 1.15, False)}
_SEMI = {"tuning": ("epochs", 0), "curve": _flat, "head": lambda classes: linear_head(
    classes, "zeros"), "nesterov": True, "whole": True, "crop": (0.08, "bicubic", 1.0, True)}

PROTOCOLS = {
  "ericsson": Protocol(
      "all layers for 5,000 steps of 64 images, 20 points of learning rate and decay and the "
      "choice of augmentation on validation, refit to train and validation", ERICSSON,
      ("steps", 5000), ("steps", 5000), _cosine, lambda classes: linear_head(classes),
      nesterov=True, whole=True, crop=(0.08, "bicubic", 1.0, True)),
  "islam_linear": Protocol(
      "a linear classifier behind a BatchNorm without scale and bias, the backbone frozen, 12 "
      "points in 20 epochs each, 50 epochs in the end", **_ISLAM,
      head=lambda classes: NormedLinear(classes, affine=False), whole=False),
  "islam_full": Protocol(
      "all layers with a BatchNorm before the classifier, 12 points in 20 epochs each, 50 epochs "
      "in the end", **_ISLAM, head=lambda classes: NormedLinear(classes), whole=True),
  # Chen et al. 2020, arXiv:2002.05709, appendix B.5: rate 0.05 B / 256 with Nesterov, no decay, no
  # warm-up, crops and flips; 60 epochs on the published 1 % of ImageNet, 30 on the 10 %. Its batch
  # is 4,096.
  "semi_1_percent": Protocol("SimCLR's fine-tuning on the published 1 % of the labels", (
      Candidate(0.8, 0.0, 4096),), final=("epochs", 60), refit=False, **_SEMI),
  "semi_10_percent": Protocol("SimCLR's fine-tuning on the published 10 % of the labels", (
      Candidate(0.8, 0.0, 4096),), final=("epochs", 30), refit=False, **_SEMI),
}


class Tuned(NamedTuple):
  """What a step changes."""

  params: Params  # {"backbone": .., "logits": ..}
  stats: Params
  opt_state: Any
  step: Array


def classification_loss(logits: Array, target: Array) -> Array:
  """Softmax cross-entropy with the one class of each row of bool[B, C]; others do not count."""
  label = jnp.where(target.sum(axis=-1) == 1, jnp.argmax(target, axis=-1), -1)
  return cross_entropy(logits, label)


def multi_label_loss(logits: Array, target: Array) -> Array:
  """Binary cross-entropy, the mean over images and classes: Ericsson et al.'s loss for VOC2007."""
  return optax.sigmoid_binary_cross_entropy(logits, target.astype(jnp.float32)).mean()


def loss_of(metric: str) -> Callable[[Array, Array], Array]:
  """The loss that goes with a metric."""
  return multi_label_loss if metric == "map11" else classification_loss


def tuning(backbone, protocol: Protocol, *, num_classes: int, metric: str):
  """Returns (init, step, logits) of fine-tuning: pure functions to be jitted.

  Learning rate and decay are arguments of the step, so that a grid compiles once.

  Args:
    backbone: A Flax module.
    protocol: One of `PROTOCOLS`.
    num_classes: C.
    metric: Decides the loss: see `loss_of`.

  Returns:
    `init(key, variables, images) -> Tuned` with the backbone's variables and a new classifier;
    `step(rate, decay, state, images f32[B,h,w,3], target bool[B,C]) -> (state, loss)` with the
    present learning rate; `logits(state, images) -> f32[B,C]` in evaluation mode.
  """
  network = Network(backbone, (("logits", "features", protocol.head(num_classes)),))
  loss_function = loss_of(metric)

  def optimizer(rate, decay):
    return sgd(constant(rate), weight_decay=decay, momentum=0.9, nesterov=protocol.nesterov)

  def init(key: Array, variables: Params, images: Array) -> Tuned:
    fresh = network.init(key, images[:2], train=False)
    params = fresh["params"] | {"backbone": variables["params"]}
    stats = dict(fresh.get("batch_stats", {})) | {"backbone": variables.get("batch_stats", {})}
    trained = params if protocol.whole else _head(params)
    return Tuned(params, stats, optimizer(0.0, 0.0).init(trained), jnp.zeros((), jnp.int32))

  def forward(params, stats, images):
    """Logits and the new statistics of a training step."""
    variables = {"params": params, "batch_stats": stats}
    outputs, updated = network.apply(variables, images, train=True, mutable=["batch_stats"])
    return outputs["logits"], updated["batch_stats"]

  def forward_frozen(params, stats, images):
    features = jax.lax.stop_gradient(backbone.apply(
        {"params": params["backbone"], "batch_stats": stats["backbone"]}, images,
        train=False)["features"])
    head = protocol.head(num_classes)
    logits, updated = head.apply(
        {"params": params["logits"], "batch_stats": stats["logits"]}, features, train=True,
        mutable=["batch_stats"])
    return logits, stats | {"logits": updated["batch_stats"]}

  run = forward if protocol.whole else forward_frozen

  def step(rate: Array, decay: Array, state: Tuned, images: Array, target: Array
           ) -> tuple[Tuned, Array]:
    trained = state.params if protocol.whole else _head(state.params)

    def loss(trained):
      logits, stats = run(state.params | trained, state.stats, images)
      return loss_function(logits, target), stats

    (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(trained)
    updates, opt_state = optimizer(rate, decay).update(gradients, state.opt_state, trained)
    params = state.params | optax.apply_updates(trained, updates)
    return Tuned(params, stats, opt_state, state.step + 1), value

  def logits(state: Tuned, images: Array) -> Array:
    return network.apply({"params": state.params, "batch_stats": state.stats}, images,
                         train=False)["logits"]

  return init, step, logits


def _head(params: Params) -> Params:
  return {"logits": params["logits"]}


class Trial(NamedTuple):
  """A candidate and its score on the validation images; nan where it diverged."""

  candidate: Candidate
  score: float


def choose(protocol: Protocol, train: Callable[[Candidate], tuple[np.ndarray, np.ndarray]],
           metric: str, report: Callable[[Trial], None] = lambda trial: None
           ) -> tuple[Candidate, list[Trial]]:
  """Trains every candidate and returns the first of the best.

  Args:
    protocol: Its candidates are tried in order.
    train: A candidate -> (logits [M, C], target bool[M, C]) of the validation images.
    metric: What is compared.
    report: Called after each.

  Returns:
    (the chosen candidate, all trials). A protocol with one candidate tries none.
  """
  if len(protocol.candidates) == 1:
    return protocol.candidates[0], []
  trials = []
  for candidate in protocol.candidates:
    logits, target = train(candidate)
    score = METRICS[metric](logits, target) if np.isfinite(logits).all() else float("nan")
    trials.append(Trial(candidate, score))
    report(trials[-1])
  best = int(np.nanargmax([trial.score for trial in trials]))
  return trials[best].candidate, trials


def train_loop(step: Callable, state: Tuned, batches: Iterator[Batch], views: Callable,
               candidate: Candidate, curve: Schedule, total: int, key: Array) -> Tuned:
  """Runs a jitted `step(rate, decay, state, images, target)` for `total` steps.

  Args:
    step: As `tuning` returns it, jitted.
    state: The start.
    batches: Without end; "target" bool[B, C] beside the images.
    views: (key, batch) -> images, jitted.
    candidate: Rate and decay.
    curve: Step -> share of the rate.
    total: How many steps.
    key: The root key; step t draws with fold_in(key, t).
  """
  for t, batch in zip(range(total), batches):
    images = views(jax.random.fold_in(key, t), batch)
    rate = candidate.learning_rate * float(curve(t))
    state, _ = step(rate, candidate.weight_decay, state, images, batch["target"])
  return state


def predict(logits: Callable, state: Tuned, views: Callable, batches: Iterable[Batch]
            ) -> dict[str, np.ndarray]:
  """"logits" f32[M, C], "target" bool[M, C] and "index" i32[M] of one pass over a set."""
  rows = []
  for batch in batches:
    valid = np.asarray(batch["valid"])
    found = {"logits": logits(state, views(jax.random.key(0), batch)), "target": batch["target"],
             "index": batch["index"]}
    rows.append({name: np.asarray(value)[valid] for name, value in found.items()})
  return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
