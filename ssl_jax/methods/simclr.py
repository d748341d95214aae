"""SimCLR: two views of an image attract, those of all other images of the batch repel."""

from ssl_jax.losses import blockwise, chance_loss, form
from ssl_jax.models import Network, simclr_head
from ssl_jax.types import Method, Outputs, Run


def simclr(run: Run, *, temperature: float = 0.1, depth: int = 2, hidden: int | None = None,
           output: int = 128) -> Method:
  """Chen et al. 2020a (arXiv:2002.05709); with `depth=3` Chen et al. 2020b (arXiv:2006.10029).

  Both views go through the network as one batch, so BatchNorm sees them together. The loss is the
  sum over both directions, as in the released code.

  Args:
    run: Backbone, views and sizes.
    temperature: Of the softmax; 0.1 on ImageNet, 0.5 on CIFAR-10 (section B.9).
    depth: Dense layers of the projector: 2 in v1, 3 in v2.
    hidden: Width of its hidden layers; None for that of the features.
    output: Width of the embedding.
  """
  head = simclr_head(depth, hidden, output, norm=run.norm, dtype=run.dtype)
  losses = form(2 * run.batch_size, 2 * run.batch_size)

  def loss(outputs: Outputs, memory):
    a, b = (outputs.online[view]["projection"] for view in ("a", "b"))
    metrics = {"contrastive_accuracy": losses.nt_xent_accuracy(a, b)}
    return losses.nt_xent(a, b, temperature), memory, metrics

  return Method(
      network=Network(run.backbone, (("projection", "features", head),)),
      views=run.views,
      online=(("a", "b"),),
      loss=loss,
      negatives=2 * run.batch_size - 2,
      chance=2 * chance_loss(2 * run.batch_size - 1),
      in_blocks=losses is blockwise)
