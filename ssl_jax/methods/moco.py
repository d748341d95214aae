"""MoCo: a query against its key and a queue of keys, made by a slowly moving network."""

from ssl_jax.losses import blockwise, chance_loss, form
from ssl_jax.methods.keys import enqueue, queue_of, restored, with_keys
from ssl_jax.models import linear_head, moco_v2_head
from ssl_jax.types import Method, Outputs, Run


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


def selfsupcon(run: Run, *, temperature: float = 0.07, queue: int = 64000, decay: float = 0.999,
               hidden: int | None = None, output: int = 128) -> Method:
  """MoCo v2 as the Broad Study has it: Islam et al. 2021 (arXiv:2103.13517), code.

  Options are those of `moco_v2`.
  """
  return moco_v2(run, temperature=temperature, queue=queue, decay=decay, hidden=hidden,
                 output=output)


def _moco(run: Run, head, *, temperature: float, queue: int, decay: float) -> Method:
  losses = form(run.batch_size, queue)

  def loss(outputs: Outputs, memory):
    query, key = outputs.online["a"]["projection"], restored(outputs, "b")
    value = losses.info_nce(query, key, memory["queue"], temperature)
    metrics = {"contrastive_accuracy": losses.info_nce_accuracy(query, key, memory["queue"])}
    # After the logits: this batch's keys are nobody's negatives yet.
    return value, enqueue(memory, queue=key), metrics

  return with_keys(run, (("projection", "features", head),), loss, queue_of(queue), queue=queue,
                   decay=decay, chance=chance_loss(queue + 1), in_blocks=losses is blockwise)
