"""What stands behind the features: projectors, predictors, classifiers and prototypes.

A head maps f[B,F] to f32[B,D]. The named makers say what each paper's head is; all but the
prototypes are one `MLP` with another list of layers.
"""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.models.names import choose
from ssl_jax.models.norm import batch_norm
from ssl_jax.types import Array


def _uniform(key, shape, fan_in):
  return jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0) * fan_in ** -0.5


def _zeros(key, shape, fan_in):
  return jnp.zeros(shape, jnp.float32)


def _truncated(key, shape, fan_in):
  return jax.random.truncated_normal(key, -2.0, 2.0, shape, jnp.float32) * fan_in ** -0.5


def _normal(key, shape, fan_in):
  return 0.01 * jax.random.normal(key, shape, jnp.float32)


# How a dense layer starts: (kernel, bias), each (key, shape, fan_in) -> f32[shape].
DENSE_INITS = {
    "torch": (_uniform, _uniform),  # torch.nn.Linear: both uniform within 1/sqrt(fan_in)
    "haiku": (_truncated, _zeros),  # Haiku's default, as in BYOL
    "normal": (_normal, _zeros),  # N(0, 0.01): SimCLR's head; the linear probes of MoCo
    "zeros": (_zeros, _zeros),
}


class Dense(nn.Module):
  """A linear layer f[B,F] -> f[B,width], computed in `dtype`; starts as DENSE_INITS says."""

  width: int
  bias: bool = True
  dense_init: str = "torch"
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    kernel_init, bias_init = choose("dense_init", self.dense_init, DENSE_INITS)
    fan_in = x.shape[-1]
    kernel = self.param("kernel", kernel_init, (fan_in, self.width), fan_in)
    y = x.astype(self.dtype) @ kernel.astype(self.dtype)
    if self.bias:
      y = y + self.param("bias", bias_init, (self.width,), fan_in).astype(self.dtype)
    return y


# What the norm of a layer learns.
NORMS = {"full": {}, "scale": {"use_bias": False}, "plain": {"use_bias": False, "use_scale": False}}


class Layer(NamedTuple):
  """One layer of an MLP: dense, then norm and ReLU where it has them.

  Attributes:
    width: Outputs; None keeps the width of the input.
    bias: Whether the dense layer has a bias.
    norm: None, or a name of NORMS.
    relu: Whether a ReLU ends the layer.
  """

  width: int | None
  bias: bool = True
  norm: str | None = None
  relu: bool = False


class MLP(nn.Module):
  """f[B,F] -> f32[B,D] through `layers`; modules are dense1, norm1, dense2, ...

  Attributes:
    layers: What to build.
    dense_init: A name of DENSE_INITS.
    norm: "global", or the number of samples in a BatchNorm group.
    dtype: Compute dtype; parameters, statistics and the result are f32.
  """

  layers: tuple[Layer, ...]
  dense_init: str = "torch"
  norm: str | int = "global"
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    chex.assert_rank(x, 2)
    norm = batch_norm(self.norm, self.dtype)
    for i, layer in enumerate(self.layers, 1):
      width = x.shape[-1] if layer.width is None else layer.width
      x = Dense(width, layer.bias, self.dense_init, self.dtype, name=f"dense{i}")(x)
      if layer.norm is not None:
        x = norm(**NORMS[layer.norm], name=f"norm{i}")(x, train)
      x = nn.relu(x) if layer.relu else x
    return x.astype(jnp.float32)


def byol_head(hidden: int = 4096, output: int = 256, dense_init: str = "haiku", **kwargs) -> MLP:
  """BYOL's projector and predictor: dense, BatchNorm, ReLU, dense without bias or norm.

  Grill et al. 2020, section 3.3; that the hidden layer has a bias is the released code's.
  """
  return relic_head((hidden, output), dense_init, **kwargs)


def relic_head(widths: tuple[int, ...], dense_init: str = "haiku", **kwargs) -> MLP:
  """ReLIC's comparison network: BYOL's head with any number of layers, of those widths."""
  hidden = (Layer(width, True, "full", True) for width in widths[:-1])
  return MLP((*hidden, Layer(widths[-1], False)), dense_init, **kwargs)


def moco_v3_projector(hidden: int = 4096, output: int = 256, dense_init: str = "torch",
                      **kwargs) -> MLP:
  """Dense, BatchNorm, ReLU, dense, BatchNorm that learns nothing; no biases.

  MoCo v3 (Chen et al. 2021, arXiv:2104.02057, code) with a ResNet; a ViT's has a layer more.
  """
  return MLP((Layer(hidden, False, "full", True), Layer(output, False, "plain")), dense_init,
             **kwargs)


def moco_v3_predictor(hidden: int = 4096, output: int = 256, dense_init: str = "torch",
                      **kwargs) -> MLP:
  """The same without the last norm, which only a ViT's predictor has."""
  return MLP((Layer(hidden, False, "full", True), Layer(output, False)), dense_init, **kwargs)


def simclr_head(depth: int = 2, hidden: int | None = None, output: int = 128,
                dense_init: str = "normal", **kwargs) -> MLP:
  """SimCLR's head of `depth` dense layers without bias, each with a BatchNorm.

  Hidden layers are as wide as the features (`hidden=None`) and end with a ReLU; the last norm has
  a scale and no bias. Depth 2 is Chen et al. 2020a, depth 3 is SimCLR v2 (Chen et al. 2020b).
  """
  layers = (Layer(hidden, False, "full", True),) * (depth - 1) + (Layer(output, False, "scale"),)
  return MLP(layers, dense_init, **kwargs)


def moco_v2_head(hidden: int | None = None, output: int = 128, dense_init: str = "torch",
                 **kwargs) -> MLP:
  """Dense, ReLU, dense, with biases and without norms: MoCo v2 (Chen et al. 2020c) and SupCon."""
  return MLP((Layer(hidden, relu=True), Layer(output)), dense_init, **kwargs)


def linear_head(output: int = 128, dense_init: str = "torch", **kwargs) -> MLP:
  """One dense layer with a bias: MoCo v1's head (He et al. 2020), and, with `dense_init`
  "zeros" or "normal", a classifier of `output` classes."""
  return MLP((Layer(output),), dense_init, **kwargs)


class Prototypes(nn.Module):
  """Cosine similarities f32[B,K] in [-1,1] of f[B,D] with K learned prototypes, no bias.

  The rows of the parameter f32[K,D] are divided by their length on use, so that the gradient has
  no part along them. (SwAV, Caron et al. 2020, renormalises the stored rows before a step instead.)
  """

  count: int

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    del train
    def uniform(key, shape):
      return _uniform(key, shape, shape[-1])
    rows = self.param("prototypes", uniform, (self.count, x.shape[-1]))
    x = x.astype(jnp.float32)
    return _unit(x) @ _unit(rows).T


def _unit(x: Array) -> Array:
  return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))
