import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ssl_jax.errors import UserError
from ssl_jax.models.norm import BatchNorm, batch_norm

DECAY, EPS = 0.9, 1e-5


def naive(x, scale, bias, size):
  """Every group by its own moments, in float64; also the means over groups of the moments."""
  groups = np.split(np.asarray(x, np.float64), len(x) // size)
  out, means, variances = [], [], []
  for g in groups:
    flat = g.reshape(-1, g.shape[-1])
    means.append(flat.mean(0))
    variances.append(((flat - flat.mean(0)) ** 2).mean(0))
    out.append((g - means[-1]) / np.sqrt(variances[-1] + EPS) * scale + bias)
  return np.concatenate(out), np.mean(means, 0), np.mean(variances, 0)


def variables(channels, seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda: rng.uniform(0.5, 1.5, channels).astype(np.float32)
  return {"params": {"scale": draw(), "bias": draw()},
          "batch_stats": {"mean": draw(), "var": draw()}}


def images(shape, seed=1):
  rng = np.random.default_rng(seed)
  return (3 + 2 * rng.normal(size=shape) + 5 * rng.normal(size=shape[:1] + (1,) * (len(shape) - 1))
          ).astype(np.float32)


@pytest.mark.parametrize("shape", [(12, 5), (12, 3, 4, 5)])
@pytest.mark.parametrize("size", [None, 12, 4])
def test_training_is_the_naive_normalisation_of_every_group(shape, size):
  x, v = images(shape), variables(5)
  y, new = BatchNorm(size).apply(v, x, True, mutable=["batch_stats"])
  wanted, mean, var = naive(x, v["params"]["scale"], v["params"]["bias"], size or 12)
  np.testing.assert_allclose(y, wanted, atol=2e-5)
  stats = v["batch_stats"]
  np.testing.assert_allclose(
      new["batch_stats"]["mean"], DECAY * stats["mean"] + (1 - DECAY) * mean, rtol=1e-5)
  np.testing.assert_allclose(
      new["batch_stats"]["var"], DECAY * stats["var"] + (1 - DECAY) * var, rtol=1e-5)


@pytest.mark.parametrize("norm", ["global", 4])
def test_evaluation_uses_the_running_statistics_and_leaves_them(norm):
  x, v = images((7, 3, 3, 5)), variables(5)  # 7 does not split into groups, and need not
  y, new = batch_norm(norm)().apply(v, x, False, mutable=["batch_stats"])
  stats, params = v["batch_stats"], v["params"]
  wanted = (x - stats["mean"]) / np.sqrt(stats["var"] + EPS) * params["scale"] + params["bias"]
  np.testing.assert_allclose(y, wanted, atol=1e-5)
  np.testing.assert_array_equal(new["batch_stats"]["var"], stats["var"])


def test_running_statistics_reach_those_of_a_constant_stream():
  x, v = images((8, 5)), variables(5)
  apply = jax.jit(lambda v: BatchNorm(4).apply(v, x, True, mutable=["batch_stats"])[1])
  for _ in range(200):
    v = {**v, **apply(v)}
  _, mean, var = naive(x, 1, 0, 4)
  np.testing.assert_allclose(v["batch_stats"]["mean"], mean, rtol=1e-5)
  np.testing.assert_allclose(v["batch_stats"]["var"], var, rtol=1e-5)


def test_groups_are_separate_applications():
  x, v = images((12, 2, 2, 5)), variables(5)
  weights = images((12, 2, 2, 5), seed=3)
  norm = lambda size, v, x: BatchNorm(size).apply(v, x, True, mutable=["batch_stats"])
  together, new = norm(4, v, x)
  apart = [norm(None, v, part) for part in np.split(x, 3)]
  np.testing.assert_allclose(together, np.concatenate([y for y, _ in apart]), atol=1e-6)
  for name in ("mean", "var"):
    np.testing.assert_allclose(
        new["batch_stats"][name], np.mean([s["batch_stats"][name] for _, s in apart], 0), rtol=1e-6)
  loss = lambda size: lambda x, w: (norm(size, v, x)[0] * w).sum()
  gradient = jax.grad(loss(4))(x, weights)
  parts = [jax.grad(loss(None))(*p) for p in zip(np.split(x, 3), np.split(weights, 3))]
  np.testing.assert_allclose(gradient, np.concatenate(parts), atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 5), (8, 3, 4, 5)])
@pytest.mark.parametrize("size", [None, 4])
def test_the_gradients_are_those_of_the_naive_normalisation(shape, size):
  x, v, dy = images(shape), variables(5), images(shape, seed=3)

  def by_autodiff(params, x):
    grouped = x.reshape(-1, size or len(x), *x.shape[1:])
    axes = tuple(range(1, grouped.ndim - 1))
    mean = grouped.mean(axes, keepdims=True)
    var = ((grouped - mean) ** 2).mean(axes, keepdims=True)
    hat = ((grouped - mean) / jnp.sqrt(var + EPS)).reshape(x.shape)
    return hat * params["scale"] + params["bias"]

  def ours(params, x):
    return BatchNorm(size).apply({**v, "params": params}, x, True, mutable=["batch_stats"])[0]

  gradients = [jax.vjp(f, v["params"], x)[1](jnp.asarray(dy)) for f in (ours, by_autodiff)]
  for got, wanted in zip(*map(jax.tree.leaves, gradients)):
    np.testing.assert_allclose(got, wanted, atol=2e-5 * float(jnp.abs(wanted).max()))


def test_the_moments_carry_no_gradient():
  x, v = images((8, 5)), variables(5)
  def running(x):
    stats = BatchNorm().apply(v, x, True, mutable=["batch_stats"])[1]["batch_stats"]
    return stats["mean"].sum() + stats["var"].sum()
  np.testing.assert_array_equal(jax.grad(running)(x), np.zeros_like(x))


@pytest.mark.parametrize(("shape", "mean"), [((4096, 3), 1e4), ((64, 8, 8, 3), 1e2)])
def test_the_variance_survives_a_large_mean(shape, mean):
  x = (mean + np.random.default_rng(0).normal(size=shape)).astype(np.float32)
  v = variables(3)
  y, _ = BatchNorm().apply(v, x, True, mutable=["batch_stats"])
  wanted = naive(x, v["params"]["scale"], 0, len(x))[0]
  y = np.asarray(y, np.float64)
  # A sum in f32 knows the mean to 1e-6 of itself only, which is 1e-2 of the deviation at 1e4.
  np.testing.assert_allclose(y - y.reshape(-1, 3).mean(0), wanted, atol=2e-3)


def test_the_arrays_of_the_caller_are_not_written():
  v = variables(5)
  before = v["batch_stats"]["mean"].copy()
  BatchNorm().apply(v, images((8, 5)), True, mutable=["batch_stats"])
  np.testing.assert_array_equal(v["batch_stats"]["mean"], before)


def test_bfloat16_keeps_statistics_in_float32():
  x, v = images((64, 4, 4, 5)), variables(5)
  y, new = BatchNorm(dtype=jnp.bfloat16).apply(
      v, jnp.asarray(x, jnp.bfloat16), True, mutable=["batch_stats"])
  exact = np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32)
  assert y.dtype == jnp.bfloat16
  for name, value in zip(("mean", "var"), naive(exact, 1, 0, 64)[1:]):
    got = new["batch_stats"][name]
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(
        got, DECAY * v["batch_stats"][name] + (1 - DECAY) * value, rtol=1e-5)


def test_initialisation_takes_any_batch_and_moves_nothing():
  v = BatchNorm(4).init(jax.random.key(0), images((3, 5)), True)
  np.testing.assert_array_equal(v["batch_stats"]["mean"], np.zeros(5))
  np.testing.assert_array_equal(v["batch_stats"]["var"], np.ones(5))


def test_a_scale_alone_has_no_bias_parameter():
  v = BatchNorm(use_bias=False).init(jax.random.key(0), images((3, 5)), True)
  assert set(v["params"]) == {"scale"}


@pytest.mark.parametrize("norm", ["globl", 0, -4, 2.5])
def test_an_unknown_norm_is_told(norm):
  with pytest.raises(UserError, match="neither 'global' nor a positive group size"):
    batch_norm(norm)


def test_a_batch_that_does_not_split_is_told():
  with pytest.raises(UserError, match=r"batch of 10 .* groups of 4"):
    BatchNorm(4).apply(variables(5), images((10, 5)), True, mutable=["batch_stats"])


def sharded_forward(size, shape=(32, 4, 4, 5)):
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  rows, all_ = (NamedSharding(mesh, PartitionSpec(*p)) for p in (("data",), ()))
  def forward(v, x):
    return BatchNorm(size).apply(v, x, True, mutable=["batch_stats"])[0]
  return jax.jit(forward, in_shardings=(all_, rows), out_shardings=rows).lower(
      variables(5), images(shape)).compile()


COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute")


@pytest.mark.parametrize("size", [4, 2])
def test_whole_groups_on_a_device_need_no_communication(size):
  text = sharded_forward(size).as_text()
  assert not [c for c in COLLECTIVES if c in text]


def test_the_global_norm_communicates_moments_only():
  text = sharded_forward(None).as_text()
  assert "all-reduce" in text
  assert not [c for c in COLLECTIVES[1:] if c in text]


@pytest.mark.parametrize("size", [None, 4, 16])
def test_eight_devices_agree_with_one(size):
  x, v = images((32, 4, 4, 5)), variables(5)
  y, _ = BatchNorm(size).apply(v, x, True, mutable=["batch_stats"])
  np.testing.assert_allclose(sharded_forward(size)(v, x), y, atol=1e-5)
