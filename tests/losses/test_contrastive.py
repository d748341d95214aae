"""Contrastive losses against double loops in f64, golden values, laws, and a mesh."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from collectives import collectives
from jax.sharding import NamedSharding, PartitionSpec

from ssl_jax import losses

nt_xent, nt_xent_mean, info_nce, supervised_contrastive, supervised_contrastive_in = map(jax.jit, (
    losses.nt_xent, losses.nt_xent_mean, losses.info_nce, losses.supervised_contrastive,
    losses.supervised_contrastive_in))
batch_info_nce, supervised_contrastive_queue = map(jax.jit, (
    losses.batch_info_nce, losses.supervised_contrastive_queue))

def waves(n, d, a, b):
  """Unit rows sin(a i j + b): the features of the golden values, computed in f64 by hand."""
  i, j = np.mgrid[1:n + 1, 1:d + 1]
  x = np.sin(a * i * j + b)
  return x / np.linalg.norm(x, axis=1, keepdims=True)


Q, K, U = waves(4, 8, .7, .1), waves(4, 8, .7, .3), waves(6, 8, 1.3, .5)
LABELS = np.array([0, 1, 0, 2])


def unit(x):
  return np.asarray(x, np.float64) / np.linalg.norm(np.asarray(x, np.float64), axis=-1)[..., None]


def naive_nt_xent(a, b, tau):
  z = np.concatenate([unit(a), unit(b)])
  B, total = len(a), 0.0
  for i in range(2 * B):
    positive = z[i] @ z[(i + B) % (2 * B)] / tau
    others = [z[i] @ z[j] / tau for j in range(2 * B) if j != i]
    total += np.log(np.sum(np.exp(others))) - positive
  return total / B


def naive_info_nce(query, key, queue, tau):
  total = 0.0
  for q, k in zip(unit(query), unit(key)):
    logits = [q @ k / tau] + [q @ u / tau for u in np.asarray(queue, np.float64)]
    total += np.log(np.sum(np.exp(logits))) - logits[0]
  return total / len(query)


def naive_supervised(features, labels, tau, base, inside):
  B, V, _ = features.shape
  z = unit(features)
  items = list(itertools.product(range(B), range(V)))
  total = 0.0
  for i, v in items:
    others = [(j, w) for j, w in items if (j, w) != (i, v)]
    mass = sum(np.exp(z[i, v] @ z[j, w] / tau) for j, w in others)
    positives = [(j, w) for j, w in others
                 if j == i or (labels[j] == labels[i] and labels[i] >= 0)]
    p = [np.exp(z[i, v] @ z[j, w] / tau) / mass for j, w in positives]
    if p:
      total -= np.log(np.mean(p)) if inside else np.mean(np.log(p))
  return tau / base * total / (B * V)


def naive_batch(query, key, tau):
  total = 0.0
  for i, q in enumerate(unit(query)):
    logits = [q @ k / tau for k in unit(key)]
    total += np.log(np.sum(np.exp(logits))) - logits[i]
  return 2 * tau * total / len(query)


def naive_queue(query, labels, queue, queue_labels, tau):
  total = 0.0
  for q, y in zip(unit(query), labels):
    logits = [q @ u / tau for u in np.asarray(queue, np.float64)]
    positives = [z for z, label in zip(logits, queue_labels) if label == y >= 0]
    mass = np.log(np.sum(np.exp(logits)))
    total += sum(mass - z for z in positives) / (len(positives) + 1e-5)
  return total / len(query)


def draw(seed, *shapes):
  return [jax.random.normal(k, s) for k, s in
          zip(jax.random.split(jax.random.key(seed), len(shapes)), shapes)]


GRID = list(itertools.product([2, 3, 5], [1, 4], [0.07, 0.5]))


@pytest.mark.parametrize("B,D,tau", GRID)
def test_nt_xent_is_the_double_loop(B, D, tau):
  a, b = draw(B, (B, D), (B, D))
  want = naive_nt_xent(a, b, tau)
  np.testing.assert_allclose(nt_xent(a, b, tau), want, rtol=2e-5, atol=1e-6)
  np.testing.assert_allclose(nt_xent_mean(a, b, tau), want / 2, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("B,D,tau", GRID)
def test_info_nce_is_the_double_loop(B, D, tau):
  query, key, queue = draw(B, (B, D), (B, D), (7, D))
  queue = unit(queue)
  np.testing.assert_allclose(info_nce(query, key, queue, tau),
                             naive_info_nce(query, key, queue, tau), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("B,D,tau", GRID)
def test_batch_info_nce_is_the_double_loop(B, D, tau):
  query, key = draw(B, (B, D), (B, D))
  np.testing.assert_allclose(batch_info_nce(query, key, tau), naive_batch(query, key, tau),
                             rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("labels", [[0, 1, 0, 2], [0, 1, 2, 3], [-1, 0, 3, 3]])
@pytest.mark.parametrize("tau", [0.07, 0.5])
def test_supervised_contrastive_queue_is_the_double_loop(labels, tau):
  query, queue = draw(1, (4, 5), (7, 5))
  queue, queue_labels = unit(queue), np.array([0, -1, 2, 0, -1, 1, 1])
  arguments = query, np.array(labels), queue, queue_labels, tau
  np.testing.assert_allclose(supervised_contrastive_queue(*arguments), naive_queue(*arguments),
                             rtol=2e-5, atol=1e-6)
  gradients = jax.jit(jax.grad(losses.supervised_contrastive_queue, (0, 2)))(*arguments)
  assert np.isfinite(gradients[0]).all()
  np.testing.assert_array_equal(gradients[1], 0)


def test_a_queue_whose_classes_are_single_images_is_info_nce():
  query, key, others = draw(2, (1, 6), (1, 6), (5, 6))
  key, others = unit(key), unit(others)
  got = supervised_contrastive_queue(query, np.array([9]), np.concatenate([key, others]),
                                     np.array([9, 0, 1, -1, 3, 4]), .2)
  np.testing.assert_allclose(got, info_nce(query, key, others, .2), rtol=2e-5)


@pytest.mark.parametrize("V,labels", [
    (1, [0, 1, 0]), (1, [0, 1, 2]), (2, [0, 1, 0, 2]), (2, [-1, -1, 0]), (3, [1, 1])])
@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_supervised_contrastive_is_the_double_loop(V, labels, tau):
  features, = draw(V, (len(labels), V, 5))
  labels = np.array(labels)
  for loss, inside in ((supervised_contrastive, False),
                       (supervised_contrastive_in, True)):
    want = naive_supervised(features, labels, tau, 0.07, inside)
    np.testing.assert_allclose(loss(features, labels, tau, 0.07), want, rtol=2e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(loss))(features, labels, tau, 0.07)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("tau,want", [(.07, 0.1784259768), (.2, 0.2782307009)])
def test_golden_moco(tau, want):
  np.testing.assert_allclose(info_nce(Q, K, U, tau), want, rtol=2e-6)


@pytest.mark.parametrize("tau,want", [(1., 2.9494243764), (.2, 0.0151703751)])
def test_golden_moco_v3(tau, want):
  both = batch_info_nce(Q, K, tau) + batch_info_nce(
      waves(4, 8, .7, .4), waves(4, 8, .7, .6), tau)
  np.testing.assert_allclose(both, want, rtol=1e-6)


@pytest.mark.parametrize("query,key,want", [
    (.1, .3, 9.4217127960), (.9, .6, 9.7696865957)])
def test_golden_labelled_queue(query, key, want):
  queue = np.concatenate([waves(4, 8, .7, key), U])
  np.testing.assert_allclose(supervised_contrastive_queue(
      waves(4, 8, .7, query), LABELS, queue, np.array([*LABELS, 0, -1, 1, -1, 2, 0]), .07), want,
                             rtol=1e-6)


@pytest.mark.parametrize("tau,base,out,inside", [
    (.1, .07, 4.7284787146, 0.7850792512),
    (.07, .07, 4.7280570013, 0.5493097239),
    (.1, .1, 3.3099351002, 0.5495554758)])
def test_golden_supervised_contrastive(tau, base, out, inside):
  features = np.stack([Q, K], axis=1)
  np.testing.assert_allclose(
      supervised_contrastive(features, LABELS, tau, base), out, rtol=2e-6)
  np.testing.assert_allclose(
      supervised_contrastive_in(features, LABELS, tau, base), inside, rtol=2e-6)


def test_golden_nt_xent():
  np.testing.assert_allclose(nt_xent_mean(Q, K, .5), 0.6023849872, rtol=2e-6)
  np.testing.assert_allclose(nt_xent(Q, K, .1), 0.0005963831, rtol=1e-5)
  a, b = np.array([(1., 0.), (0., 1.)]), np.array([(.8, .6), (-.6, .8)])
  np.testing.assert_allclose(nt_xent(a, b, .5), 0.8603805543, rtol=2e-6)


def test_equal_similarities_cost_the_chance_loss():
  same = jnp.ones((6, 3))
  np.testing.assert_allclose(nt_xent_mean(same, same, .1), losses.chance_loss(11), rtol=1e-6)
  np.testing.assert_allclose(info_nce(same, same, unit(jnp.ones((9, 3))), .1),
                             losses.chance_loss(10), rtol=1e-6)
  np.testing.assert_allclose(batch_info_nce(same, same, .1), .2 * losses.chance_loss(6), rtol=1e-6)


def test_views_and_images_may_be_reordered():
  a, b = draw(0, (5, 4), (5, 4))
  order = np.array([3, 1, 4, 0, 2])
  np.testing.assert_allclose(nt_xent(b, a, .2), nt_xent(a, b, .2), rtol=1e-6)
  np.testing.assert_allclose(nt_xent(a[order], b[order], .2), nt_xent(a, b, .2),
                             rtol=1e-6)


def test_length_does_not_matter():
  a, b = draw(0, (5, 4), (5, 4))
  np.testing.assert_allclose(nt_xent(a * 7, b / 3, .2), nt_xent(a, b, .2), rtol=1e-5)


def test_nothing_is_lost_in_bf16_inputs():
  a, b = (x.astype(jnp.bfloat16) for x in draw(0, (5, 4), (5, 4)))
  value = nt_xent(a, b, .1)
  assert value.dtype == jnp.float32
  np.testing.assert_allclose(value, naive_nt_xent(a.astype(float), b.astype(float), .1), rtol=1e-5)


def test_one_image_has_no_negatives_and_no_gradient():
  a, b = draw(0, (1, 4), (1, 4))
  value, gradient = jax.jit(jax.value_and_grad(nt_xent))(a, b, .1)
  assert value == 0
  np.testing.assert_array_equal(gradient, 0)


def test_no_gradient_reaches_keys_and_queue():
  query, key, queue = draw(0, (4, 5), (4, 5), (6, 5))
  gradients = jax.jit(jax.grad(info_nce, argnums=(0, 1, 2)))(query, key, queue, .2)
  assert np.abs(gradients[0]).max() > 0
  np.testing.assert_array_equal(gradients[1], 0)
  np.testing.assert_array_equal(gradients[2], 0)


def test_l_in_is_never_above_l_out():
  for seed in range(10):
    features, = draw(seed, (6, 2, 4))
    labels = np.array([0, 1, 0, 0, 1, 2])
    out = supervised_contrastive(features, labels, .2, .07)
    assert supervised_contrastive_in(features, labels, .2, .07) <= out + 1e-5


def test_with_one_positive_both_supervised_losses_are_nt_xent():
  a, b = draw(1, (4, 6), (4, 6))
  want = nt_xent_mean(a, b, .3) * .3 / .07
  for labels in (np.arange(4), np.full(4, -1)):
    for loss in (supervised_contrastive, supervised_contrastive_in):
      np.testing.assert_allclose(loss(jnp.stack([a, b], 1), labels, .3, .07), want, rtol=1e-5)


def test_accuracy_counts_nearest_positives_and_not_ties():
  a = jnp.eye(4)
  assert losses.nt_xent_accuracy(a, a) == 100
  assert losses.nt_xent_accuracy(a, a[::-1]) == 0
  # Rows 0 and 1 of the second view are exchanged: half of the anchors, in both directions.
  assert losses.nt_xent_accuracy(a, a[jnp.array([1, 0, 2, 3])]) == 50
  assert losses.info_nce_accuracy(a, a, -a) == 100
  assert losses.info_nce_accuracy(a, a, a[:1]) == 75  # the queue's entry ties with key 0
  assert losses.batch_info_nce_accuracy(a, a) == 100
  assert losses.batch_info_nce_accuracy(a, a[jnp.array([1, 0, 2, 3])]) == 50


LOSSES = {
  "batch_info_nce": lambda a, b: batch_info_nce(a, b, .2),
  "queue": lambda a, b: supervised_contrastive_queue(
      a, jnp.arange(len(a)) % 3, unit(np.ones((9, 6)) + np.eye(9, 6)), np.arange(9) % 4 - 1, .2),
  "nt_xent": lambda a, b: nt_xent(a, b, .2),
  "info_nce": lambda a, b: info_nce(a, b, unit(np.ones((3, 6)) + np.eye(3, 6)), .2),
  "out": lambda a, b: supervised_contrastive(
      jnp.stack([a, b], 1), jnp.arange(len(a)) % 3, .2, .07),
  "in": lambda a, b: supervised_contrastive_in(
      jnp.stack([a, b], 1), jnp.arange(len(a)) % 3, .2, .07),
}


@pytest.mark.parametrize("name", LOSSES)
def test_eight_devices_agree_with_one(name):
  a, b = draw(2, (16, 6), (16, 6))
  function = jax.jit(jax.value_and_grad(LOSSES[name], argnums=(0, 1)))
  value, gradients = function(a, b)
  split = NamedSharding(mesh(), PartitionSpec("data"))
  got, moved = jax.jit(function, out_shardings=(None, split))(*jax.device_put((a, b), split))
  np.testing.assert_allclose(got, value, rtol=1e-6)
  for g, w in zip(moved, gradients):
    np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_a_sharded_batch_moves_embeddings_once_and_never_similarities(name):
  """Forward: all-gathers of [B, D] and reductions of scalars; backward: sums of [B, D] besides."""
  B, D = 64, 6
  split = NamedSharding(mesh(), PartitionSpec("data"))
  shape = jax.ShapeDtypeStruct((B, D), jnp.float32, sharding=split)
  for function, backward in ((LOSSES[name], False), (jax.grad(LOSSES[name], (0, 1)), True)):
    for c in collectives(jax.jit(function).lower(shape, shape).compile()):
      assert c.kind in ("all-gather", "all-reduce", "reduce-scatter"), c
      if c.kind == "all-reduce" and not backward:
        assert c.elements == 1, c
      assert c.elements <= 2 * B * D, c


def mesh():
  return jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
