"""ReLICv2: ReLIC over many views, large and small, and few negatives."""

from collections.abc import Sequence

from ssl_jax.errors import UserError
from ssl_jax.methods.relic import compared
from ssl_jax.types import Method, Run


def relicv2(run: Run, *, temperature: float = 0.2, negatives: int = 10,
            contrastive_weight: float = 0.3, invariance_weight: float = 5.0,
            invariance: str = "swap_roles", same_view: bool = True, decay: float = 0.996,
            widths: Sequence[int] = (4096, 512)) -> Method:
  """Tomasev et al. 2022 (arXiv:2201.05119): the mean of both terms over pairs of views.

  Anchors are all views, targets the large ones; small views go through the online network only.
  The views are named large0, large1, ..., small0, ... Released were the evaluation and a listing
  of the loss; weights, temperature, negatives and widths are recollections of the paper.

  Args:
    run: Backbone, views and sizes.
    temperature: tau.
    negatives: Other images, drawn anew at every step, that one is told from.
    contrastive_weight: alpha.
    invariance_weight: beta.
    invariance: A reading of the invariance term: a name of `losses.relic.READINGS`.
    same_view: Whether a large view is compared with its own target too, as in the listing.
    decay: The target's rate at step 0, from which it rises to 1 by a cosine.
    widths: Of the layers of the comparison network.

  Raises:
    UserError: There are no large views.
  """
  large, small = (tuple(name for name in run.view_names if name.startswith(kind))
                  for kind in ("large", "small"))
  pairs = tuple((a, b) for a in large + small for b in large if same_view or a != b)
  if not pairs:
    raise UserError(f"method relicv2 finds no pair of views among {', '.join(run.view_names)}; it "
                    "needs large0, large1, ...: config.views.preset='relicv2'")
  return compared(
      run, large, pairs, 1.0, temperature=temperature, negatives=negatives,
      contrastive_weight=contrastive_weight, invariance_weight=invariance_weight,
      invariance=invariance, decay=decay, widths=widths)
