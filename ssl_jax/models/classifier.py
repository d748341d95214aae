"""Classifiers on top of a backbone, as the fine-tuning protocols have them."""

import flax.linen as nn

from ssl_jax.models.heads import Dense
from ssl_jax.models.norm import BatchNorm
from ssl_jax.types import Array


class NormedLinear(nn.Module):
  """BatchNorm, then a dense layer with torch's start: f[B,F] -> f32[B,C].

  Islam et al. 2021, arXiv:2103.13517 (code): the head of their linear and fine-tuning protocols.

  Attributes:
    output: C.
    affine: Whether the norm has a scale and a bias.
  """

  output: int
  affine: bool = True

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    x = BatchNorm(use_scale=self.affine, use_bias=self.affine, name="norm")(x, train)
    return Dense(self.output, name="dense")(x)
