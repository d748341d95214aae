"""Cross-entropy with the labels: the encoder that self-supervised ones are compared with."""

from ssl_jax.losses import accuracy, chance_loss, cross_entropy
from ssl_jax.models import Network, linear_head
from ssl_jax.types import Method, Outputs, Run


def supervised(run: Run) -> Method:
  """A linear classifier on the features, trained with the backbone; of the views it takes "a"."""
  head = linear_head(run.num_classes, dtype=run.dtype)

  def loss(outputs: Outputs, memory):
    logits, labels = outputs.online["a"]["logits"], outputs.batch["label"]
    return cross_entropy(logits, labels), memory, {"accuracy": accuracy(logits, labels)}

  return Method(
      network=Network(run.backbone, (("logits", "features", head),)),
      views=run.views,
      online=(("a",),),
      loss=loss,
      chance=chance_loss(run.num_classes))
