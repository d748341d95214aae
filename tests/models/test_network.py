import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ssl_jax.models import Network, Prototypes, byol_head, linear_head, make_backbone, moco_v2_head

SHAPE = (32, 8, 8, 3)
X = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def backbone(**options):
  return make_backbone("resnet10", **(dict(
      blocks=(1, 1), widths=(8, 16), strides=(1, 2), stem_width=8, stem="small") | options))


def byol(norm="global"):
  return Network(backbone(norm=norm), (
      ("projection", "features", byol_head(16, 8, norm=norm)),
      ("prediction", "projection", byol_head(16, 8, norm=norm))))


def test_heads_are_chained_by_name():
  network = byol()
  v = network.init(jax.random.key(0), X, True)
  assert set(v["params"]) == {"backbone", "projection", "prediction"}
  outputs = network.apply(v, X, False)
  assert {k: x.shape for k, x in outputs.items()} == {
      "features": (32, 16), "projection": (32, 8), "prediction": (32, 8)}
  def part(name, module, x):
    return module.apply({c: v[c][name] for c in v}, x, False)
  features = part("backbone", backbone(), X)["features"]
  np.testing.assert_allclose(outputs["features"], features, atol=1e-6)
  projection = part("projection", byol_head(16, 8), features)
  prediction = part("prediction", byol_head(16, 8), projection)
  np.testing.assert_allclose(outputs["prediction"], prediction, atol=1e-5)


def test_heads_may_stand_side_by_side():
  network = Network(backbone(), (
      ("projection", "features", moco_v2_head(output=8)),
      ("logits", "features", linear_head(5, "zeros")),
      ("scores", "projection", Prototypes(3))))
  v = network.init(jax.random.key(0), X, True)
  outputs = network.apply(v, X, False)
  assert {k: x.shape[1] for k, x in outputs.items()} == {
      "features": 16, "projection": 8, "logits": 5, "scores": 3}
  np.testing.assert_array_equal(outputs["logits"], 0)


def test_everything_that_leaves_is_float32():
  network = Network(backbone(dtype=jnp.bfloat16), (
      ("projection", "features", byol_head(16, 8, dtype=jnp.bfloat16)),))
  v = network.init(jax.random.key(0), X, True)
  outputs = network.apply(v, X, True, mutable=["batch_stats"])
  assert {leaf.dtype for leaf in jax.tree.leaves((v, outputs))} == {jnp.dtype("float32")}


def test_a_network_is_a_value():
  assert byol() == byol() and hash(byol()) == hash(byol())
  assert byol() != byol(norm=4)


@pytest.mark.parametrize("norm", ["global", 4])
def test_eight_devices_agree_with_one_in_value_gradient_and_statistics(norm):
  network = byol(norm)
  v = network.init(jax.random.key(0), X, True)
  weights = np.random.default_rng(1).normal(size=(32, 8)).astype(np.float32)

  def loss(params, x, w):
    outputs, new = network.apply(
        {**v, "params": params}, x, True, mutable=["batch_stats"])
    return (outputs["prediction"] * w).mean(), new

  step = jax.value_and_grad(loss, has_aux=True)
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  rows, all_ = (NamedSharding(mesh, PartitionSpec(*p)) for p in (("data",), ()))
  eight = jax.jit(step, in_shardings=(all_, rows, rows))(v["params"], X, weights)
  one = jax.jit(step)(v["params"], X, weights)
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), eight, one)
