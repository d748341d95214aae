"""Array operations against numpy, on one device and on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from collectives import collectives
from jax.sharding import NamedSharding, PartitionSpec

from ssl_jax import ops


def test_l2_normalize_gives_unit_rows_and_stays_finite_at_zero():
  x = jax.random.normal(jax.random.key(0), (5, 3, 7)) * 100
  np.testing.assert_allclose(
      ops.l2_normalize(x), x / np.linalg.norm(x, axis=-1, keepdims=True), rtol=1e-6)
  zero = jnp.zeros((2, 4))
  np.testing.assert_array_equal(ops.l2_normalize(zero), zero)
  assert np.isfinite(jax.jacobian(ops.l2_normalize)(zero)).all()


def test_l2_normalize_computes_in_f32():
  x = jax.random.normal(jax.random.key(0), (4, 512)).astype(jnp.bfloat16)
  y = ops.l2_normalize(x)
  assert y.dtype == jnp.float32
  np.testing.assert_allclose(jnp.linalg.norm(y, axis=-1), 1, rtol=1e-6)


def test_random_unit_is_uniform_on_the_sphere():
  x = ops.random_unit(jax.random.key(3), (20000, 4))
  np.testing.assert_allclose(jnp.linalg.norm(x, axis=-1), 1, rtol=1e-5)
  np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.02)
  np.testing.assert_allclose(x.T @ x / len(x), np.eye(4) / 4, atol=0.01)


@pytest.mark.parametrize("K,B", [(12, 4), (10, 4), (7, 3), (5, 5), (3, 8), (6, 13)])
def test_queue_push_is_a_ring_for_every_size(K, B):
  """The naive form: write row after row, each at the pointer, which then moves by one."""
  queue, pointer = jnp.full((K, 2), -1.0), jnp.int32(0)
  ring, place = np.full((K, 2), -1.0), 0
  push = jax.jit(ops.queue_push)
  for step in range(5):
    new = jnp.arange(B * 2.0).reshape(B, 2) + 100 * step
    queue, pointer = push(queue, pointer, new)
    for row in np.asarray(new):
      ring[place] = row
      place = (place + 1) % K
    np.testing.assert_array_equal(queue, ring)
    assert int(pointer) == place


def test_queue_has_no_random_entry_left_after_enough_pushes():
  K, B = 10, 4
  queue, pointer = jnp.full((K,), -1), jnp.int32(0)
  for step in range(-(-K // B)):
    queue, pointer = ops.queue_push(queue, pointer, jnp.full((B,), step))
  assert (queue >= 0).all()


def test_queue_push_on_a_mesh_is_the_same_and_moves_only_the_new_rows():
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
  queue = jnp.zeros((4096, 8))
  new = jax.random.normal(jax.random.key(0), (16, 8))
  push = jax.jit(ops.queue_push, in_shardings=(whole, whole, split), out_shardings=whole)
  got, pointer = push(queue, jnp.int32(4090), new)
  want, _ = ops.queue_push(queue, jnp.int32(4090), new)
  np.testing.assert_array_equal(got, want)
  assert int(pointer) == 10
  moved = collectives(push.lower(queue, jnp.int32(0), new).compile())
  assert moved and all(c.kind == "all-gather" and c.elements <= new.size for c in moved), moved


@pytest.mark.parametrize("n", [1, 2, 33])
def test_shuffle_is_undone_by_its_inverse(n):
  permutation, inverse = ops.shuffle(jax.random.key(n), n)
  x = jnp.arange(n * 3).reshape(n, 3)
  np.testing.assert_array_equal(x[permutation][inverse], x)
  np.testing.assert_array_equal(np.sort(permutation), np.arange(n))


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_shuffle_is_undone_on_a_mesh(devices):
  mesh = jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices],
                       axis_types=(jax.sharding.AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec("data"))

  @jax.jit
  def there_and_back(key, x):
    permutation, inverse = ops.shuffle(key, len(x))
    return x[permutation][inverse], permutation

  x = jax.device_put(jnp.arange(16 * 3).reshape(16, 3), split)
  y, permutation = there_and_back(jax.random.key(5), x)
  np.testing.assert_array_equal(x, y)
  np.testing.assert_array_equal(permutation, ops.shuffle(jax.random.key(5), 16)[0])
