"""SupCon: all views of all images of a class attract."""

import jax.numpy as jnp

from ssl_jax.losses import blockwise, form
from ssl_jax.models import Network, moco_v2_head
from ssl_jax.types import Method, Outputs, Run


def supcon(run: Run, *, temperature: float = 0.1, base_temperature: float = 0.07,
           hidden: int | None = None, output: int = 128) -> Method:
  """Khosla et al. 2020 (arXiv:2004.11362), equation 2 (L_out), with the released code's factor.

  Args:
    run: Backbone, views and sizes.
    temperature: Of the softmax.
    base_temperature: The loss is multiplied by temperature / base_temperature.
    hidden: Width of the head's hidden layer; None for that of the features.
    output: Width of the embedding.
  """
  head = moco_v2_head(hidden, output, dtype=run.dtype)
  losses = form(2 * run.batch_size, 2 * run.batch_size)

  def loss(outputs: Outputs, memory):
    z = jnp.stack([outputs.online[view]["projection"] for view in ("a", "b")], axis=1)  # [B,V,D]
    labels = outputs.batch["label"]
    return losses.supervised_contrastive(z, labels, temperature, base_temperature), memory, {}

  return Method(
      network=Network(run.backbone, (("projection", "features", head),)),
      views=run.views,
      online=(("a", "b"),),
      loss=loss,
      negatives=2 * run.batch_size - 2,
      in_blocks=losses is blockwise)
