"""CLSA's terms against loops in f64, golden values, laws, and a mesh."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from collectives import collectives
from jax.sharding import NamedSharding, PartitionSpec

from ssl_jax.losses import (
  batch_and_queue,
  clsa_terms,
  distributional_divergence,
  positive_and_queue,
)

CANDIDATES = {"batch": batch_and_queue, "positive": positive_and_queue}


def waves(n, d, a, b):
  """Unit rows sin(a i j + b): the features of the golden values."""
  i, j = np.mgrid[1:n + 1, 1:d + 1]
  x = np.sin(a * i * j + b)
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def unit(x):
  return np.asarray(x, np.float64) / np.linalg.norm(np.asarray(x, np.float64), axis=-1)[..., None]


def softmax(x):
  return np.exp(x) / np.exp(x).sum()


def naive(weak, strong, key, queue, tau, tau2, which):
  """The released code's sums in loops: over views, pairs of views, rows and candidates."""
  key, queue, contrastive, divergence = unit(key), np.asarray(queue, np.float64), 0.0, 0.0
  for i in range(len(key)):
    candidates = [*(key if which == "batch" else key[i:i + 1]), *queue]
    positive = i if which == "batch" else 0

    def cosines(view):
      return np.array([unit(view)[i] @ c for c in candidates])  # noqa: B023

    for w in weak:
      contrastive -= np.log(softmax(cosines(w) / tau)[positive])
      for s in strong:
        p, q = softmax(cosines(w) / tau2), softmax(cosines(s) / tau2)
        for c in range(len(candidates)):
          divergence -= p[c] * np.log(q[c])
  return contrastive / len(key), divergence / len(key)


def draw(seed, count, *shape):
  return list(jax.random.normal(jax.random.key(seed), (count, *shape)))


def test_golden_clsa():
  q, k, u, s = waves(4, 8, .7, .1), waves(4, 8, .7, .3), waves(6, 8, 1.3, .5), waves(4, 8, .7, .9)
  contrastive, divergence = clsa_terms([q], [s], k, u, .2, .2)
  np.testing.assert_allclose(contrastive, 0.2949521031, rtol=2e-6)
  np.testing.assert_allclose(divergence, 0.8873377764, rtol=2e-6)
  np.testing.assert_allclose(contrastive + divergence, 1.1822898795, rtol=2e-6)


@pytest.mark.parametrize("which", CANDIDATES)
def test_the_terms_are_the_loops(which):
  terms = jax.jit(clsa_terms, static_argnames="candidates", compiler_options=tiny.QUICK)
  for (B, V, W), (tau, tau2) in itertools.product(
      [(1, 1, 1), (5, 3, 2)], [(.2, .2), (.07, .5)]):
    weak, strong, (key,) = draw(1, V, B, 4), draw(2, W, B, 4), draw(3, 1, B, 4)
    queue = unit(draw(4, 1, 7, 4)[0])
    got = terms(weak, strong, key, queue, tau, tau2, candidates=CANDIDATES[which])
    np.testing.assert_allclose(got, naive(weak, strong, key, queue, tau, tau2, which), rtol=2e-5)


def test_the_gradient_is_that_of_the_kullback_leibler_divergence_and_of_strong_views_only():
  weak, strong = draw(5, 2, 4, 9)

  def divergence(weak, strong):
    return distributional_divergence([weak], [strong], .3)

  def kullback_leibler(weak, strong):
    p, q = jax.nn.softmax(weak / .3), jax.nn.softmax(strong / .3)
    return jnp.mean(jnp.sum(p * (jnp.log(p) - jnp.log(q)), axis=-1))

  to_weak, to_strong = jax.grad(divergence, (0, 1))(weak, strong)
  np.testing.assert_array_equal(to_weak, 0)
  np.testing.assert_allclose(to_strong, jax.grad(kullback_leibler, 1)(weak, strong), atol=1e-6)
  np.testing.assert_allclose(jax.grad(divergence, 1)(weak, weak), 0, atol=1e-6)


def test_what_underflows_in_a_softmax_stays_finite():
  weak, strong = jnp.array([[1.0, -1.0]]), jnp.array([[-1.0, 1.0]])
  value, gradient = jax.value_and_grad(
      lambda s: distributional_divergence([weak], [s], 0.01))(strong)
  np.testing.assert_allclose(value, 200, rtol=1e-6)
  assert np.isfinite(gradient).all()


def test_no_gradient_reaches_keys_and_queue_nor_weak_views_through_the_divergence():
  weak, strong, key, queue = *draw(6, 3, 4, 5), unit(draw(7, 1, 6, 5)[0])

  def term(which):
    return lambda w, s, k, u: clsa_terms([w], [s], k, u, .2, .2)[which]
  contrastive, divergence = (
      jax.jit(jax.grad(term(i), (0, 1, 2, 3)), compiler_options=tiny.QUICK)(
          weak, strong, key, queue) for i in range(2))
  for gradients, reached in ((contrastive, 0), (divergence, 1)):
    assert [bool(np.abs(g).max()) for g in gradients] == [i == reached for i in range(4)]


def test_eight_devices_agree_with_one_and_move_embeddings_only():
  B, D = 16, 6
  views, queue = draw(8, 4, B, D), unit(draw(9, 1, 5, D)[0])

  def loss(w0, w1, s, k):
    return sum(clsa_terms([w0, w1], [s], k, queue, .2, .3))
  gradient = jax.value_and_grad(loss, (0, 1, 2))
  value, gradients = jax.jit(gradient)(*views)
  split = NamedSharding(tiny.mesh_of(8), PartitionSpec("data"))
  compiled = jax.jit(gradient).lower(*jax.device_put(views, split)).compile()
  got, moved = compiled(*jax.device_put(views, split))
  np.testing.assert_allclose(got, value, rtol=1e-6)
  for g, w in zip(moved, gradients, strict=True):
    np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-7)
  assert all(c.elements <= B * D for c in collectives(compiled)), collectives(compiled)
