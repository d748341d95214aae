"""SupCon against a queue: all keys of an image's class attract, those of the others repel."""

from ssl_jax.losses import blockwise, chance_loss, form
from ssl_jax.methods.keys import enqueue, labelled_queue_of, restored, with_keys
from ssl_jax.models import moco_v2_head
from ssl_jax.types import Method, Outputs, Run


def supcon_queue(run: Run, *, temperature: float = 0.07, queue: int = 64000, decay: float = 0.999,
                 hidden: int | None = None, output: int = 128) -> Method:
  """Islam et al. 2021 (arXiv:2103.13517), code: SupCon of Khosla et al. with MoCo's keys.

  Args:
    run: Backbone, views and sizes; BatchNorm in groups of 64 images is the paper's.
    temperature: Of the softmax.
    queue: K, the number of keys.
    decay: The rate of the key network.
    hidden: Width of the head's hidden layer; None for that of the features.
    output: Width of the embedding.
  """
  losses = form(run.batch_size, queue)

  def loss(outputs: Outputs, memory):
    labels = outputs.batch["label"]
    # Before the logits: an image's own key is one of its positives.
    memory = enqueue(memory, queue=restored(outputs, "b"), label=labels)
    value = losses.supervised_contrastive_queue(
        outputs.online["a"]["projection"], labels, memory["queue"], memory["label"], temperature)
    return value, memory, {}

  head = moco_v2_head(hidden, output, dtype=run.dtype)
  return with_keys(run, (("projection", "features", head),), loss, labelled_queue_of(queue),
                   queue=queue, decay=decay, chance=chance_loss(queue),
                   in_blocks=losses is blockwise)
