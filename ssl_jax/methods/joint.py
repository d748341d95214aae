"""Labels and self-supervision on the same features: the joint objectives of the Broad Study.

Islam et al. 2021 (arXiv:2103.13517). SelfSupCon is MoCo's loss, SupCon the one against a labelled
queue; weights and sizes are the released code's. (That code meant to gather and to shuffle the keys
over devices, but a flag left both out; here they are in.)
"""

import jax.numpy as jnp

from ssl_jax.losses import (
  accuracy,
  blockwise,
  chance_loss,
  cross_entropy,
  form,
)
from ssl_jax.methods.keys import enqueue, labelled_queue_of, queue_of, restored, with_keys
from ssl_jax.models import linear_head, moco_v2_head
from ssl_jax.types import Method, Outputs, Run


def ce_selfsupcon(run: Run, *, selfsupcon_weight: float = 0.5, temperature: float = 0.07,
                  queue: int = 64000, decay: float = 0.999, hidden: int | None = None,
                  output: int = 128) -> Method:
  """Cross-entropy on the query's features plus `selfsupcon_weight` times SelfSupCon.

  The other options are those of `moco_v2`.
  """
  losses = form(run.batch_size, queue)

  def loss(outputs: Outputs, memory):
    logits, labels = outputs.online["a"]["logits"], outputs.batch["label"]
    query, key = outputs.online["a"]["projection"], restored(outputs, "b")
    value = cross_entropy(logits, labels) + selfsupcon_weight * losses.info_nce(
        query, key, memory["queue"], temperature)
    return value, enqueue(memory, queue=key), {
        "accuracy": accuracy(logits, labels),
        "contrastive_accuracy": losses.info_nce_accuracy(query, key, memory["queue"])}

  heads = (("projection", "features", moco_v2_head(hidden, output, dtype=run.dtype)),
           ("logits", "features", linear_head(run.num_classes, dtype=run.dtype)))
  chance = chance_loss(run.num_classes) + selfsupcon_weight * chance_loss(queue + 1)
  return with_keys(run, heads, loss, queue_of(queue), queue=queue, decay=decay, chance=chance,
                   in_blocks=losses is blockwise)


def supcon_selfsupcon(run: Run, *, supcon_weight: float = 1.0, selfsupcon_weight: float = 0.5,
                      temperature: float = 0.07, queue: int = 64000, decay: float = 0.999,
                      hidden: int | None = None, output: int = 128) -> Method:
  """SupCon and SelfSupCon with a projector each, and one queue of both embeddings side by side.

  SelfSupCon compares before this batch's keys are queued, SupCon after. The other options are
  those of `moco_v2`.
  """
  losses = form(run.batch_size, queue)
  projectors = ("projection", "labelled")

  def loss(outputs: Outputs, memory):
    query, labels, before = outputs.online["a"], outputs.batch["label"], memory["queue"]
    keys = [restored(outputs, "b", head) for head in projectors]
    contrastive = losses.info_nce(query["projection"], keys[0], before[:, :output], temperature)
    memory = enqueue(memory, queue=jnp.concatenate(keys, axis=-1), label=labels)
    supervised = losses.supervised_contrastive_queue(
        query["labelled"], labels, memory["queue"][:, output:], memory["label"], temperature)
    return supcon_weight * supervised + selfsupcon_weight * contrastive, memory, {
        "contrastive_loss": contrastive, "supervised_loss": supervised}

  heads = tuple((name, "features", moco_v2_head(hidden, output, dtype=run.dtype))
                for name in projectors)
  chance = supcon_weight * chance_loss(queue) + selfsupcon_weight * chance_loss(queue + 1)
  return with_keys(run, heads, loss, labelled_queue_of(queue, projectors), queue=queue,
                   decay=decay, chance=chance, in_blocks=losses is blockwise)
