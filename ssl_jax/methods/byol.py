"""BYOL: a view predicts what a slowly moving network makes of the other view; no negatives."""

from ssl_jax.losses import normalized_mse
from ssl_jax.models import Network, byol_head
from ssl_jax.schedules import ema_cosine
from ssl_jax.types import Method, Outputs, Run


def byol(run: Run, *, decay: float = 0.996, hidden: int = 4096, output: int = 256) -> Method:
  """Grill et al. 2020 (arXiv:2006.07733), equations 2 and 3.

  Each view is a forward pass of its own, so BatchNorm sees them apart. The target starts as a copy
  of the online network (the released code draws it anew, to no visible effect) and has a
  predictor too, which nothing reads.

  Args:
    run: Backbone, views and sizes.
    decay: The target's rate at step 0, from which it rises to 1 by a cosine: 0.996 for 1000
      epochs, 0.99 for 300 and 100, 0.97 for 40 (released configs).
    hidden: Hidden width of projector and predictor.
    output: Width of the embedding.
  """
  def head():
    return byol_head(hidden, output, norm=run.norm, dtype=run.dtype)

  def loss(outputs: Outputs, memory):
    def predicts(view, other):
      return normalized_mse(outputs.online[view]["prediction"], outputs.target[other]["projection"])
    return predicts("a", "b") + predicts("b", "a"), memory, {}

  return Method(
      network=Network(run.backbone, (("projection", "features", head()),
                                     ("prediction", "projection", head()))),
      views=run.views,
      online=(("a",), ("b",)),
      target=(("a",), ("b",)),
      loss=loss,
      decay=ema_cosine(decay, total=run.total_steps))
