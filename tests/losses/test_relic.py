"""ReLIC's terms against loops over images and candidates, golden values and laws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ssl_jax import losses
from ssl_jax.losses.relic import READINGS

contrastive, invariance = map(jax.jit, (losses.relic_contrastive, losses.relic_invariance))
draw_candidates = jax.jit(losses.draw_candidates, static_argnums=(1, 2))


def unit(x):
  return np.asarray(x, np.float64) / np.linalg.norm(np.asarray(x, np.float64), axis=-1)[..., None]


def distribution(anchor, targets, candidates, tau):
  """p(j | anchor) over the candidates, by its definition."""
  mass = [np.exp(anchor @ targets[j] / tau) for j in candidates]
  return np.array(mass) / np.sum(mass)


def naive(online, target, other_anchor, other_target, candidates, tau):
  online, target, other_anchor, other_target = map(unit, (
      online, target, other_anchor, other_target))
  attract, divergence = 0.0, 0.0
  for i, row in enumerate(np.asarray(candidates)):
    p = distribution(online[i], target, row, tau)
    q = distribution(other_anchor[i], other_target, row, tau)
    attract -= np.log(p[0])
    divergence += sum(p[j] * np.log(p[j] / q[j]) for j in range(len(row)))
  return attract / len(online), divergence / len(online)


def draw(seed, B, D=5):
  return jax.random.normal(jax.random.key(seed), (4, B, D))


@pytest.mark.parametrize(("B", "n", "tau"), [(2, 1, 0.2), (5, 2, 0.1), (5, 4, 1.0), (8, 3, 0.2)])
def test_both_terms_are_the_double_loop(B, n, tau):
  x = draw(B, B)
  candidates = draw_candidates(jax.random.key(n), B, n)
  want = naive(*x, candidates, tau)
  np.testing.assert_allclose(contrastive(*x[:2], candidates, tau), want[0], rtol=1e-5)
  np.testing.assert_allclose(invariance(*x, candidates, tau), want[1], rtol=1e-4, atol=1e-6)


def test_golden():
  """Two images, each the other's only negative."""
  a, b = np.array([(1., 0.), (0., 1.)]), np.array([(.8, .6), (-.6, .8)])
  candidates = draw_candidates(jax.random.key(0), 2, 1)
  views = {"x": a}, {"y": b}
  attract = contrastive(a, b, candidates, .2)
  divergence = invariance(a, b, *READINGS["swap_roles"](*views, "x", "y"), candidates, .2)
  np.testing.assert_allclose(attract, 0.1570865770, rtol=1e-6)
  np.testing.assert_allclose(divergence, 0.8040911105, rtol=1e-6)
  np.testing.assert_allclose(.3 * attract + 5 * divergence, 4.0675815257, rtol=1e-6)


def test_the_candidates_are_the_image_and_distinct_others():
  for B, n in ((2, 1), (7, 3), (7, 6)):
    candidates = np.asarray(draw_candidates(jax.random.key(B), B, n))
    assert candidates.shape == (B, 1 + n)
    np.testing.assert_array_equal(candidates[:, 0], np.arange(B))
    assert all(len(set(row)) == 1 + n for row in candidates)


def test_every_other_image_is_drawn_alike():
  keys = jax.random.split(jax.random.key(0), 3000)
  drawn = jax.vmap(lambda key: draw_candidates(key, 6, 2))(keys)[:, 3, 1:]
  counts = np.bincount(np.asarray(drawn).ravel(), minlength=6)
  assert counts[3] == 0
  np.testing.assert_allclose(counts[[0, 1, 2, 4, 5]] / 3000, 2 / 5, atol=0.04)


def test_with_all_others_it_is_info_nce_of_one_direction():
  online, target, *_ = draw(0, 6)
  candidates = draw_candidates(jax.random.key(0), 6, 5)
  want = losses.batch_info_nce(online, target, 0.3) / (2 * 0.3)
  np.testing.assert_allclose(contrastive(online, target, candidates, 0.3), want, rtol=1e-5)


def test_equal_similarities_cost_the_chance_loss_and_diverge_nowhere():
  same = jnp.ones((6, 3))
  candidates = draw_candidates(jax.random.key(0), 6, 3)
  np.testing.assert_allclose(contrastive(same, same, candidates, .1), losses.chance_loss(4),
                             rtol=1e-6)
  assert invariance(same, same, same, same, candidates, .1) == 0


def readings(online, target, a="a", b="b"):
  return {name: reading(online, target, a, b) for name, reading in READINGS.items()}


def test_the_readings_compare_with_what_they_say():
  o_a, o_b, t_a, t_b = draw(1, 4)
  found = readings({"a": o_a, "b": o_b}, {"a": t_a, "b": t_b})
  for name, want in {"swap_roles": (t_b, o_a), "swap_views": (o_b, t_a),
                     "same_targets": (o_b, t_b)}.items():
    for got, array in zip(found[name], want, strict=True):
      np.testing.assert_array_equal(got, array)


def test_a_small_view_has_no_target_and_swaps_none():
  o_a, o_b, _, t_b = draw(1, 4)
  found = readings({"a": o_a, "b": o_b}, {"b": t_b})
  np.testing.assert_array_equal(found["swap_views"], found["same_targets"])


def test_the_invariance_is_not_negative_and_zero_where_nothing_changes():
  candidates = draw_candidates(jax.random.key(0), 6, 3)
  for seed in range(5):
    assert invariance(*draw(seed, 6), candidates, .2) > 0
  # Identical views and networks: every reading compares a distribution with itself, also the one
  # that swaps the roles, since the similarities are symmetric then.
  x = draw(0, 6)[0]
  for other in readings({"a": x, "b": x}, {"a": x, "b": x}).values():
    np.testing.assert_allclose(invariance(x, x, *other, candidates, .2), 0, atol=1e-6)


def test_the_gradient_reaches_the_anchors_of_p_alone():
  x, candidates = draw(2, 5), draw_candidates(jax.random.key(0), 5, 2)
  gradients = jax.jit(jax.grad(losses.relic_invariance, argnums=(0, 1, 2, 3)))(*x, candidates, .2)
  assert np.abs(gradients[0]).max() > 1e-3
  for gradient in gradients[1:]:
    np.testing.assert_array_equal(gradient, 0)
  online, target = jax.jit(jax.grad(losses.relic_contrastive, argnums=(0, 1)))(
      *x[:2], candidates, .2)
  assert np.abs(online).max() > 1e-3
  np.testing.assert_array_equal(target, 0)


def test_eight_devices_agree_with_one():
  x, candidates = draw(3, 16), draw_candidates(jax.random.key(0), 16, 5)

  def both(online, target, other_anchor, other_target):
    return losses.relic_contrastive(online, target, candidates, .2) + losses.relic_invariance(
        online, target, other_anchor, other_target, candidates, .2)

  function = jax.jit(jax.value_and_grad(both))
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec("data"))
  for got, want in zip(itertools.chain(function(*jax.device_put(tuple(x), split))),
                       function(*x), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
