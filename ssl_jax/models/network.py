"""A backbone with its heads as one module."""

import flax.linen as nn
import jax.numpy as jnp

from ssl_jax.types import Array


class Network(nn.Module):
  """f32[B,H,W,3] -> {"features": f32[B,F], <head>: f32[B,D], ...}.

  Parameters live under "backbone" and under the name of each head, so that a converter or a
  weight-decay mask can address them by path.

  Attributes:
    backbone: `(images, train) -> {"features": f32[B,F], ...}`.
    heads: (name, input, module) in order of computation; `input` is "features" or the name of an
      earlier head. BYOL is (("projection", "features", m), ("prediction", "projection", m)).
  """

  backbone: nn.Module
  heads: tuple[tuple[str, str, nn.Module], ...] = ()

  @nn.compact
  def __call__(self, images: Array, train: bool) -> dict[str, Array]:
    outputs = {"features": self.backbone(images, train)["features"]}
    for name, source, module in self.heads:
      outputs[name] = module.clone(name=name, parent=self)(outputs[source], train)
    return {name: value.astype(jnp.float32) for name, value in outputs.items()}
