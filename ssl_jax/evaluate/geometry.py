"""How features lie on the sphere: within and between classes, aligned and uniform."""

from functools import partial

import chex
import jax
import jax.numpy as jnp

from ssl_jax.ops import inner_products, l2_normalize
from ssl_jax.types import Array


@partial(jax.jit, static_argnames="num_classes")
def class_distances(features: Array, labels: Array, *, num_classes: int) -> dict[str, Array]:
  """Distances within and between the classes, of features scaled to unit length.

  The intra-class distances of Islam et al. 2021, arXiv:2103.13517, which does not say whether it
  means pairs of images or images and their centre: both are given, with their companions between
  classes. Memory is of the order N^2 for the pairs.

  Args:
    features: f32[N, F].
    labels: i32[N] in [0, C); a negative label leaves its image out.
    num_classes: C.

  Returns:
    f32[] each, Euclidean and so from 0 to 2, means over the classes (with two images or more) of:
    "intra_pairs", the mean distance of two images of the class; "intra_centre", that to the class's
    mean; and over all pairs of classes: "inter_pairs", of an image of one and an image of another;
    "inter_centre", of their means; "ratio", intra_pairs / inter_pairs.
  """
  chex.assert_rank([features, labels], [2, 1])
  z = l2_normalize(features)
  member = (labels[:, None] == jnp.arange(num_classes)).astype(jnp.float32)  # [N, C]
  count = member.sum(0)
  centre = member.T @ z / jnp.maximum(count, 1)[:, None]

  apart = jnp.sqrt(jnp.maximum(2 - 2 * inner_products(z, z), 0)) * (1 - jnp.eye(len(z)))
  sums = member.T @ apart @ member  # [C, C]
  pairs = count[:, None] * count - jnp.diag(count)
  mean = sums / jnp.maximum(pairs, 1)
  to_centre = jnp.linalg.norm(z - centre[labels], axis=-1)
  between = jnp.linalg.norm(centre[:, None] - centre, axis=-1)

  several = (count > 1).astype(jnp.float32)
  present = (count > 0).astype(jnp.float32)
  others = present[:, None] * present * (1 - jnp.eye(num_classes))
  intra = _mean(jnp.diag(mean), several)
  inter = _mean(mean, others)
  return {
      "intra_pairs": intra,
      "intra_centre": _mean(member.T @ to_centre / jnp.maximum(count, 1), several),
      "inter_pairs": inter,
      "inter_centre": _mean(between, others),
      "ratio": intra / jnp.maximum(inter, 1e-30),
  }


def alignment(a: Array, b: Array) -> Array:
  """The mean squared distance of two views of an image: f32[] from 0 to 4, less is better.

  Wang and Isola 2020, arXiv:2005.10242, equation 9 with alpha 2; the rows of a and b [B, D] are
  scaled to unit length.
  """
  chex.assert_equal_shape([a, b])
  return jnp.mean(jnp.sum(jnp.square(l2_normalize(a) - l2_normalize(b)), axis=-1))


def uniformity(x: Array, t: float = 2.0) -> Array:
  """log of the mean of exp(-t |x_i - x_j|^2) over pairs i < j: f32[] from -4 t to 0.

  Wang and Isola 2020, equation 10 and its code; less means more evenly spread on the sphere. The
  rows of x [B, D], B > 1, are scaled to unit length.
  """
  chex.assert_rank(x, 2)
  n = len(x)
  z = l2_normalize(x)
  square = jnp.maximum(2 - 2 * inner_products(z, z), 0)
  away = jnp.where(jnp.eye(n, dtype=bool), -jnp.inf, -t * square)
  return jax.nn.logsumexp(away) - jnp.log(n * (n - 1.0))


def _mean(values: Array, weights: Array) -> Array:
  return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1)
