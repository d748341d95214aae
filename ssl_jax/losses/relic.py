"""ReLIC: attract an image's own target, and keep the prediction of who it is the same under style.

Mitrovic et al. 2021 (arXiv:2010.07922) and Tomasev et al. 2022 (arXiv:2201.05119). Both terms are
about one distribution: given an anchor, which of a few targets, its own and those of some other
images, is of the same image? `candidates` says which; it is drawn once a step, so that the
distributions that are compared have the same support.
"""

import chex
import jax
import jax.numpy as jnp

from ssl_jax.ops import inner_products, l2_normalize
from ssl_jax.types import Array


def draw_candidates(key: Array, count: int, negatives: int) -> Array:
  """Draws whom each of `count` images is told from: itself first, then `negatives` others.

  Image i is told from i + r modulo `count`, with the same distinct r from 1 to count - 1 for every
  image: for each of them a uniform draw without replacement, at the cost of one.

  Returns:
    i32[count, 1 + negatives].
  """
  chex.assert_scalar_in(negatives, 1, count - 1)
  offsets = 1 + jax.random.permutation(key, count - 1)[:negatives]
  offsets = jnp.concatenate([jnp.zeros(1, offsets.dtype), offsets])
  return (jnp.arange(count)[:, None] + offsets) % count


def relic_contrastive(online: Array, target: Array, candidates: Array, temperature: float) -> Array:
  """The contrastive term: -log p(an image's own target), averaged over the images.

  No gradient reaches the target. With all images as candidates it is the InfoNCE loss of one
  direction.

  Args:
    online: [B, D] anchors.
    target: [B, D] what they are compared with, row for row the positives.
    candidates: i32[B, N], rows of `target`; column 0 is the own row.
    temperature: tau > 0.

  Returns:
    f32[]; ln N when all similarities are equal.
  """
  log_p = _log_probability(online, jax.lax.stop_gradient(target), candidates, temperature)
  return -jnp.mean(log_p[:, 0])


def relic_invariance(online: Array, target: Array, other_anchor: Array, other_target: Array,
                     candidates: Array, temperature: float) -> Array:
  """The invariance term: KL(p || sg q), averaged over the images.

  p is the distribution of the contrastive term and q that of another pair of views of the same
  images (arXiv:2010.07922, arXiv:2201.05119). The gradient reaches `online` alone. Which pair q is
  about, the published listing leaves open: see `swap_roles`, `swap_views` and `same_targets`, which
  give `other_anchor` and `other_target`.

  Args:
    online: [B, D] anchors of p.
    target: [B, D] its targets.
    other_anchor: [B, D] anchors of q.
    other_target: [B, D] its targets.
    candidates: i32[B, N] as in `relic_contrastive`, for both.
    temperature: tau > 0.

  Returns:
    f32[], at least 0, and 0 when p and q agree.
  """
  target, other_anchor, other_target = jax.lax.stop_gradient((target, other_anchor, other_target))
  log_p = _log_probability(online, target, candidates, temperature)
  log_q = _log_probability(other_anchor, other_target, candidates, temperature)
  return jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))


Embeddings = dict[str, Array]  # view -> f32[B, D]


def swap_roles(online: Embeddings, target: Embeddings, a: str, b: str) -> tuple[Array, Array]:
  """q of anchor view a and target view b: the target of b as anchor, among the online views a.

  The only reading that the published call `loss(online, target, negatives)` can compute.
  """
  return target[b], online[a]


def swap_views(online: Embeddings, target: Embeddings, a: str, b: str) -> tuple[Array, Array]:
  """q of anchor view a and target view b: the online view b as anchor, among the targets of a.

  A small view a has no target; there it is `same_targets`.
  """
  return online[b], target.get(a, target[b])


def same_targets(online: Embeddings, target: Embeddings, a: str, b: str) -> tuple[Array, Array]:
  """q of anchor view a and target view b: the online view b as anchor, among the targets of b."""
  return online[b], target[b]


READINGS = {"swap_roles": swap_roles, "swap_views": swap_views, "same_targets": same_targets}


def _log_probability(anchors: Array, targets: Array, candidates: Array, temperature: float
                     ) -> Array:
  chex.assert_rank([anchors, targets, candidates], 2)
  chex.assert_equal_shape([anchors, targets])
  chex.assert_equal_shape_prefix([anchors, candidates], 1)
  # All B^2 products and then a choice of columns: to gather [B, N, D] rows of a sharded batch
  # would move more than one factor of a matrix product does.
  similarity = inner_products(l2_normalize(anchors), l2_normalize(targets)) / temperature
  return jax.nn.log_softmax(jnp.take_along_axis(similarity, candidates, axis=1))
