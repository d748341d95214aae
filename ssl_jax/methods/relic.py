"""ReLIC: tell an image from others, by predictions that its style does not change."""

from collections.abc import Sequence

import jax

from ssl_jax.errors import UserError
from ssl_jax.losses import chance_loss, draw_candidates, relic_contrastive, relic_invariance
from ssl_jax.losses.relic import READINGS
from ssl_jax.models import Network, relic_head
from ssl_jax.models.names import choose
from ssl_jax.schedules import ema_cosine
from ssl_jax.types import Method, Outputs, Run

CANDIDATES = 2**31 - 1  # the stream of the step's key for the negatives: no view has this number


def relic(run: Run, *, temperature: float = 0.1, invariance_weight: float = 1.0,
          invariance: str = "swap_views", negatives: int | None = None, decay: float = 0.996,
          widths: Sequence[int] = (4096, 2048, 1024, 512)) -> Method:
  """Mitrovic et al. 2021 (arXiv:2010.07922) with a target network, on two views as BYOL's.

  The sum over both directions of the contrastive term and of the invariance term. There is no
  released code: every default but those of BYOL's recipe (views, target) is a reading of the paper.

  Args:
    run: Backbone, views and sizes.
    temperature: tau.
    invariance_weight: alpha, the weight of the invariance term.
    invariance: Which prediction must agree with that of view 1 among the targets of view 2: that
      of view 2 among the targets of view 1 ("swap_views"), or another of `losses.relic.READINGS`.
    negatives: Other images that one is told from; None for all of the batch.
    decay: The target's rate at step 0, from which it rises to 1 by a cosine.
    widths: Of the layers of the comparison network (the paper's critic).
  """
  pairs = (("a", "b"), ("b", "a"))
  return compared(
      run, ("a", "b"), pairs, len(pairs), temperature=temperature,
      negatives=negatives or run.batch_size - 1, contrastive_weight=1.0,
      invariance_weight=invariance_weight, invariance=invariance, decay=decay, widths=widths)


def compared(run: Run, targets: Sequence[str], pairs: Sequence[tuple[str, str]], scale: float, *,
             temperature: float, negatives: int, contrastive_weight: float,
             invariance_weight: float, invariance: str, decay: float, widths: Sequence[int]
             ) -> Method:
  """A method of both terms over `pairs` of views (anchor, target): `scale` times their mean.

  Every view is a forward pass of its own; those of `targets` go through the target network too.
  """
  if negatives >= run.batch_size:
    raise UserError(f"config.method.negatives is {negatives}, and a batch of {run.batch_size} has "
                    f"{run.batch_size - 1} other images; lower it or raise config.batch_size")
  other = choose("config.method.invariance", invariance, READINGS)
  anchors = tuple(dict.fromkeys(a for a, _ in pairs))
  head = relic_head(tuple(widths), norm=run.norm, dtype=run.dtype)

  def loss(outputs: Outputs, memory):
    online = {view: outputs.online[view]["projection"] for view in anchors}
    target = {view: outputs.target[view]["projection"] for view in targets}
    candidates = draw_candidates(jax.random.fold_in(outputs.key, CANDIDATES),
                                 outputs.batch["index"].shape[0], negatives)
    contrastive = [relic_contrastive(online[a], target[b], candidates, temperature)
                   for a, b in pairs]
    divergence = [relic_invariance(online[a], target[b], *other(online, target, a, b), candidates,
                                   temperature) for a, b in pairs]
    contrastive, divergence = (scale * sum(x) / len(pairs) for x in (contrastive, divergence))
    return (contrastive_weight * contrastive + invariance_weight * divergence, memory,
            {"contrastive_loss": contrastive, "invariance_loss": divergence})

  return Method(
      network=Network(run.backbone, (("projection", "features", head),)),
      views=run.views,
      online=tuple((view,) for view in anchors),
      target=tuple((view,) for view in targets),
      loss=loss,
      decay=ema_cosine(decay, total=run.total_steps),
      negatives=negatives,
      chance=scale * contrastive_weight * chance_loss(1 + negatives))
