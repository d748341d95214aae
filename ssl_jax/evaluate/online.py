"""What is watched at every step: a linear head on stopped gradients, and signs of collapse."""

import jax
import jax.numpy as jnp
import optax

from ssl_jax.evaluate.collapse import feature_std
from ssl_jax.losses import accuracy, cross_entropy
from ssl_jax.types import Array, Monitor, Outputs


def watch(view: str, num_classes: int, learning_rate: float = 1e-3) -> Monitor:
  """A monitor of one view's features.

  Metrics: `feature_std`, which falls towards 0 when features collapse to a point; and with labels
  `online_loss` and `online_accuracy` (percent) of a linear classifier that Adam trains beside the
  encoder, on features from which no gradient flows back.

  Args:
    view: A view of the online route.
    num_classes: Number of labels; 0 watches collapse only.
    learning_rate: Adam's.
  """
  optimizer = optax.adam(learning_rate)

  def features(outputs: Outputs) -> Array:
    return outputs.online[view]["features"]  # [B,F]

  def loss(head, outputs: Outputs):
    logits = features(outputs) @ head["kernel"] + head["bias"]
    labels = outputs.batch["label"]
    return cross_entropy(logits, labels), accuracy(logits, labels)

  def init(key: Array, outputs: Outputs):
    del key  # zeros: the head's problem is convex
    head = {"kernel": jnp.zeros((features(outputs).shape[-1], num_classes)),
            "bias": jnp.zeros(num_classes)}
    return head, optimizer.init(head)

  def update(state, outputs: Outputs):
    head, opt_state = state
    (value, hits), gradients = jax.value_and_grad(loss, has_aux=True)(head, outputs)
    updates, opt_state = optimizer.update(gradients, opt_state)
    metrics = {"online_loss": value, "online_accuracy": hits}
    return (optax.apply_updates(head, updates), opt_state), metrics | collapse(outputs)

  def collapse(outputs: Outputs):
    return {"feature_std": feature_std(features(outputs))}

  if not num_classes:
    return Monitor(init=lambda key, outputs: (), update=lambda state, outputs: (
        state, collapse(outputs)))
  return Monitor(init, update)
