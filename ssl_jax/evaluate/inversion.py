"""What an encoder remembers of an image: the image that a generator finds from the features."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from ssl_jax.models.hourglass import Hourglass
from ssl_jax.types import Array

Encode = Callable[[Array], Array]  # f32[B, h, w, 3] -> f32[B, ...]
Stages = Callable[[Array], dict[str, Array]]  # f32[B, h, w, 3] -> {name: f32[B, h', w', C]}
NOISE = 32  # channels of the generator's input, uniform up to 0.1: Ulyanov et al. 2017, appendix


class Inversion(NamedTuple):
  """What `invert` finds."""

  image: Array  # f32[h, w, 3] in [0, 1]
  losses: Array  # f32[steps], the mean squared difference of features before each step


@partial(jax.jit, static_argnames=("encode", "steps", "learning_rate", "channels", "skip"))
def invert(key: Array, encode: Encode, image: Array, *, steps: int = 3000,
           learning_rate: float = 1e-3, channels: tuple[int, ...] = (128,) * 5, skip: int = 4
           ) -> Inversion:
  """Finds an image with the features of another, among those that a convolutional network makes.

  The feature inversion of Ericsson et al. 2020, arXiv:2011.13377, appendix A.8: the weights of a
  generator on fixed noise (deep image prior, Ulyanov et al. 2017) are fitted by Adam. The distance
  of features is not told there; here it is the mean square, as in deep image prior.

  Args:
    key: Draws noise and weights.
    encode: Images -> features; the paper takes the map before the pooling. To be the same object
      from call to call, or it is compiled again.
    image: f32[h, w, 3] in [0, 1].
    steps: Of Adam.
    learning_rate: Of Adam.
    channels: Of the generator's scales; each halves the image, whose sides must stay above 1.
    skip: Channels of its skip connections.
  """
  chex.assert_rank(image, 3)
  generator = Hourglass(channels, skip)
  noise = 0.1 * jax.random.uniform(jax.random.fold_in(key, 0), (1, *image.shape[:2], NOISE))
  params = generator.init(jax.random.fold_in(key, 1), noise)
  optimizer = optax.adam(learning_rate)
  wanted = encode(image[None])

  def loss(params):
    return jnp.mean(jnp.square(encode(generator.apply(params, noise)) - wanted))

  def step(carry, _):
    params, state = carry
    value, gradients = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradients, state)
    return (optax.apply_updates(params, updates), state), value

  (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
  return Inversion(generator.apply(params, noise)[0], losses)


def channel_errors(image: Array, other: Array) -> Array:
  """Mean squared errors of red, green and blue, f32[..., 3], in the units of 0 to 255.

  Ericsson et al. 2020, table 9. Images [..., h, w, 3] in [0, 1].
  """
  chex.assert_equal_shape([image, other])
  return jnp.mean(jnp.square(255 * (image - other)), axis=(-3, -2))


def perceptual_distance(stages: Stages, image: Array, other: Array) -> Array:
  """The distance of two images in the layers of a network, f32[B]: LPIPS without its weights.

  Zhang et al. 2018, arXiv:1801.03924, equation 1 with all w = 1: the channels of every layer are
  scaled to unit length at every place, their squared differences are summed over channels, averaged
  over places and summed over layers. LPIPS proper is of AlexNet, VGG or SqueezeNet with learnt
  weights; figures of this distance are not comparable with it, nor between judging networks.

  Args:
    stages: The judging network: images -> the outputs of its layers, each f32[B, h', w', C].
    image: f32[B, h, w, 3].
    other: The same.
  """
  chex.assert_equal_shape([image, other])

  def unit(x):  # with LPIPS's epsilon: a dead place does not count
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)

  layers = zip(stages(image).values(), stages(other).values())
  return sum(jnp.mean(jnp.sum(jnp.square(unit(x) - unit(y)), axis=-1), axis=(1, 2))
             for x, y in layers)
