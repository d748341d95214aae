import itertools

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ssl_jax.models.conv import conv, lax_conv, max_pool, same_padding, symmetric_padding

PADDINGS = (symmetric_padding, same_padding)


def naive(x, kernel, stride, padding):
  x = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)))
  k = kernel.shape[0]
  h, w = ((n - k) // stride + 1 for n in x.shape[1:3])
  out = np.zeros((len(x), h, w, kernel.shape[-1]))
  for i, j in itertools.product(range(h), range(w)):
    window = x[:, i * stride:i * stride + k, j * stride:j * stride + k]
    out[:, i, j] = np.einsum("bhwc,hwcd->bd", window, kernel)
  return out


def draw(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


GRID = [(k, s, size, pad) for k in (1, 3, 7) for s in (1, 2) for size in ((6, 6), (7, 9))
        for pad in PADDINGS]


@pytest.mark.parametrize(("k", "stride", "size", "pad"), GRID)
def test_convolution_is_the_naive_one(k, stride, size, pad):
  x, kernel = draw((2, *size, 3)), draw((k, k, 3, 4), seed=1)
  padding = pad(size, k, stride)
  np.testing.assert_allclose(
      conv(x, kernel, stride, padding), naive(x, kernel, stride, padding), atol=1e-4)


@pytest.mark.parametrize("pad", PADDINGS)
def test_the_pool_is_the_maximum_of_every_window(pad):
  x = draw((2, 8, 7, 3)) - 10  # all negative: a padding of zero would win
  padding = pad((8, 7), 3, 2)
  got = max_pool(x, 3, 2, padding)
  padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=-np.inf)
  for i, j in itertools.product(range(got.shape[1]), range(got.shape[2])):
    window = padded[:, 2 * i:2 * i + 3, 2 * j:2 * j + 3]
    np.testing.assert_array_equal(got[:, i, j], window.max((1, 2)))


def test_the_paddings_differ_as_published():
  """224 px, stem 7x7 stride 2 and 3x3 stride 2 on 56 px: the odd pixel of SAME goes after."""
  assert same_padding((224, 224), 7, 2) == ((2, 3), (2, 3))
  assert same_padding((56, 56), 3, 2) == ((0, 1), (0, 1))
  assert symmetric_padding((224, 224), 7, 2) == ((3, 3), (3, 3))
  assert symmetric_padding((56, 56), 3, 2) == ((1, 1), (1, 1))
  assert same_padding((7, 7), 3, 1) == symmetric_padding((7, 7), 3, 1)


@pytest.mark.parametrize("pad", PADDINGS)
@pytest.mark.parametrize(("size", "k", "stride"), [(28, 3, 2), (7, 3, 2), (32, 7, 2), (9, 1, 2)])
def test_both_paddings_halve_alike(size, k, stride, pad):
  out = jax.eval_shape(lambda x, w: conv(x, w, stride, pad((size, size), k, stride)),
                       np.zeros((1, size, size, 1), "f4"), np.zeros((k, k, 1, 1), "f4"))
  assert out.shape == (1, -(-size // 2), -(-size // 2), 1)


@pytest.mark.parametrize(("k", "stride", "size", "pad"), [g for g in GRID if g[0] > 1])
@pytest.mark.parametrize("batch", [2, 64])  # one chunk, and several
def test_both_gradients_are_those_of_lax(k, stride, size, pad, batch):
  padding = pad(size, k, stride)
  x, kernel = draw((batch, *size, 3)), draw((k, k, 3, 4), seed=1)
  dy = draw(jax.eval_shape(lambda: lax_conv(x, kernel, stride, padding)).shape, seed=2)
  gradients = lambda f: jax.jit(lambda x, w, dy: jax.vjp(
      lambda x, w: f(x, w, stride, padding), x, w)[1](dy))(x, kernel, dy)
  for got, wanted in zip(gradients(conv), gradients(lax_conv)):
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_gradients_are_those_of_lax(stride):
  x, kernel = draw((4, 6, 6, 3)), draw((1, 1, 3, 5), seed=1)
  dy = draw((4, 6 // stride, 6 // stride, 5), seed=2)
  gradients = lambda f: jax.vjp(
      lambda x, w: f(x, w, stride, ((0, 0), (0, 0))), x, kernel)[1](dy)
  for got, wanted in zip(gradients(conv), gradients(lax_conv)):
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_low_precision_gradients_are_added_in_float32():
  x, kernel = draw((256, 6, 6, 3)), draw((3, 3, 3, 4), seed=1)
  dy = draw((256, 6, 6, 4), seed=2)
  low = [a.astype(jax.numpy.bfloat16) for a in (x, kernel, dy)]
  gradient = lambda x, w, dy: jax.vjp(lambda w: conv(x, w, 1, ((1, 1), (1, 1))), w)[1](dy)[0]
  got, wanted = gradient(*low), gradient(*[np.asarray(a, np.float32) for a in low])
  assert got.dtype == jax.numpy.bfloat16
  np.testing.assert_allclose(np.asarray(got, np.float32), wanted, rtol=0.01, atol=0.05)


def test_the_chunks_of_a_sharded_batch_stay_where_they_are():
  x, kernel, dy = draw((128, 6, 6, 3)), draw((3, 3, 3, 4), seed=1), draw((128, 6, 6, 4), seed=2)
  def gradient(x, dy):
    return jax.vjp(lambda w: conv(x, w, 1, ((1, 1), (1, 1))), kernel)[1](dy)[0]
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  rows = NamedSharding(mesh, PartitionSpec("data"))
  compiled = jax.jit(gradient, in_shardings=(rows, rows)).lower(x, dy).compile()
  moved = [c for c in ("all-gather", "all-to-all", "collective-permute") if c in compiled.as_text()]
  assert not moved
  one = jax.jit(gradient)(x, dy)
  np.testing.assert_allclose(compiled(*jax.device_put((x, dy), rows)), one, atol=1e-3)
