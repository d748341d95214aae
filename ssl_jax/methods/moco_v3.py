"""MoCo v3: a predictor, keys of the batch instead of a queue, both directions."""

from ssl_jax.losses import blockwise, chance_loss, form
from ssl_jax.models import Network, moco_v3_predictor, moco_v3_projector
from ssl_jax.schedules import ema_cosine
from ssl_jax.types import Method, Outputs, Run


def moco_v3(run: Run, *, temperature: float = 1.0, decay: float = 0.99, hidden: int = 4096,
            output: int = 256) -> Method:
  """Chen et al. 2021 (arXiv:2104.02057), algorithm 1, with the heads of a ResNet.

  Each view is a forward pass of its own, with BatchNorm over the global batch. The target has a
  predictor too, which nothing reads.

  Args:
    run: Backbone, views and sizes.
    temperature: Of the softmax: 1 with a ResNet (released code).
    decay: The target's rate at step 0, from which it rises to 1 by a cosine: 0.99 for 100 and 300
      epochs, 0.996 for 1000.
    hidden: Hidden width of projector and predictor.
    output: Width of the embedding.
  """
  losses = form(run.batch_size, run.batch_size)
  heads = (("projection", "features", moco_v3_projector), ("prediction", "projection",
                                                           moco_v3_predictor))

  def loss(outputs: Outputs, memory):
    pairs = [(outputs.online[view]["prediction"], outputs.target[other]["projection"])
             for view, other in (("a", "b"), ("b", "a"))]
    value = sum(losses.batch_info_nce(query, key, temperature) for query, key in pairs)
    hits = sum(losses.batch_info_nce_accuracy(query, key) for query, key in pairs) / 2
    return value, memory, {"contrastive_accuracy": hits}

  return Method(
      network=Network(run.backbone, tuple(
          (name, source, head(hidden, output, norm=run.norm, dtype=run.dtype))
          for name, source, head in heads)),
      views=run.views,
      online=(("a",), ("b",)),
      target=(("a",), ("b",)),
      loss=loss,
      decay=ema_cosine(decay, total=run.total_steps),
      negatives=run.batch_size - 1,
      chance=4 * temperature * chance_loss(run.batch_size),
      in_blocks=losses is blockwise)
