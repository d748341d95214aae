"""MoCo: a query against its key and a queue of keys, made by a slowly moving network."""

import jax

from ssl_jax.losses import blockwise, chance_loss, form
from ssl_jax.models import Network, linear_head, moco_v2_head
from ssl_jax.ops import l2_normalize, queue_push, random_unit, shuffle
from ssl_jax.schedules import constant
from ssl_jax.types import Array, Batch, Method, Outputs, Run

SHUFFLE = 7  # the stream of the step's key from which the order of the key batch is drawn


def moco_v1(run: Run, *, temperature: float = 0.07, queue: int = 65536, decay: float = 0.999,
            output: int = 128) -> Method:
  """He et al. 2020 (arXiv:1911.05722): a linear head, temperature 0.07, m = 0.999, K = 65,536.

  Args:
    run: Backbone, views and sizes. BatchNorm in groups of 32 images is the paper's (8 GPUs of 32);
      with global statistics the keys leak to the queries.
    temperature: Of the softmax.
    queue: K, the number of negatives.
    decay: m, the rate of the key network.
    output: Width of the embedding.
  """
  head = linear_head(output, dtype=run.dtype)
  return _moco(run, head, temperature=temperature, queue=queue, decay=decay)


def moco_v2(run: Run, *, temperature: float = 0.2, queue: int = 65536, decay: float = 0.999,
            hidden: int | None = None, output: int = 128) -> Method:
  """Chen et al. 2020 (arXiv:2003.04297): MoCo with an MLP head and temperature 0.2.

  Args:
    run: As in `moco_v1`.
    temperature: Of the softmax.
    queue: K, the number of negatives.
    decay: m, the rate of the key network.
    hidden: Width of the head's hidden layer; None for that of the features.
    output: Width of the embedding.
  """
  head = moco_v2_head(hidden, output, dtype=run.dtype)
  return _moco(run, head, temperature=temperature, queue=queue, decay=decay)


def _moco(run: Run, head, *, temperature: float, queue: int, decay: float) -> Method:
  losses = form(run.batch_size, queue)

  def views(key: Array, batch: Batch):
    # The stored images are permuted, not the views: uint8 pixels are cheaper to move. Which view
    # is unused in which call is known to the compiler, so each is computed once.
    order, _ = shuffle(jax.random.fold_in(key, SHUFFLE), batch["index"].shape[0])
    shuffled = jax.tree.map(lambda x: x[order], batch)
    return {"query": run.views(key, batch)["a"], "key": run.views(key, shuffled)["b"]}

  def init_memory(key: Array, outputs: Outputs):
    width = outputs.target["key"]["projection"].shape[-1]
    return {"queue": random_unit(key, (queue, width)), "pointer": jax.numpy.int32(0)}

  def loss(outputs: Outputs, memory):
    _, restore = shuffle(jax.random.fold_in(outputs.key, SHUFFLE),
                         outputs.batch["index"].shape[0])
    query = outputs.online["query"]["projection"]
    key = l2_normalize(outputs.target["key"]["projection"][restore])
    value = losses.info_nce(query, key, memory["queue"], temperature)
    metrics = {"contrastive_accuracy": losses.info_nce_accuracy(query, key, memory["queue"])}
    # After the logits: this batch's keys are nobody's negatives yet.
    entries, pointer = queue_push(memory["queue"], memory["pointer"], key)
    return value, {"queue": entries, "pointer": pointer}, metrics

  return Method(
      network=Network(run.backbone, (("projection", "features", head),)),
      views=views,
      online=(("query",),),
      target=(("key",),),
      loss=loss,
      decay=constant(decay),
      init_memory=init_memory,
      negatives=queue,
      chance=chance_loss(queue + 1),
      in_blocks=losses is blockwise)
