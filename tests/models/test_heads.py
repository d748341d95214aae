import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.models.heads import (
    DENSE_INITS,
    Dense,
    Prototypes,
    byol_head,
    linear_head,
    moco_v2_head,
    moco_v3_predictor,
    moco_v3_projector,
    relic_head,
    simclr_head,
)

X = np.random.default_rng(0).normal(size=(16, 12)).astype(np.float32)


def shapes(head):
  variables = jax.eval_shape(lambda: head.init(jax.random.key(0), X, True))
  return jax.tree.map(jnp.shape, variables["params"])


def test_the_heads_have_the_parameters_of_their_papers():
  norm = lambda n: {"scale": (n,), "bias": (n,)}
  assert shapes(byol_head(20, 8)) == {
      "dense1": {"kernel": (12, 20), "bias": (20,)}, "norm1": norm(20),
      "dense2": {"kernel": (20, 8)}}
  assert shapes(simclr_head(3, output=8)) == {
      "dense1": {"kernel": (12, 12)}, "norm1": norm(12),
      "dense2": {"kernel": (12, 12)}, "norm2": norm(12),
      "dense3": {"kernel": (12, 8)}, "norm3": {"scale": (8,)}}
  assert shapes(moco_v2_head(output=8)) == {
      "dense1": {"kernel": (12, 12), "bias": (12,)}, "dense2": {"kernel": (12, 8), "bias": (8,)}}
  assert shapes(relic_head((20, 16, 8))) == {
      "dense1": {"kernel": (12, 20), "bias": (20,)}, "norm1": norm(20),
      "dense2": {"kernel": (20, 16), "bias": (16,)}, "norm2": norm(16),
      "dense3": {"kernel": (16, 8)}}
  for head in (moco_v3_projector(20, 8), moco_v3_predictor(20, 8)):
    assert shapes(head) == {"dense1": {"kernel": (12, 20)}, "norm1": norm(20),
                            "dense2": {"kernel": (20, 8)}}
  assert shapes(linear_head(8)) == {"dense1": {"kernel": (12, 8), "bias": (8,)}}


def standardise(x):
  return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


def test_heads_compute_what_they_say():
  def run(head):
    v = head.init(jax.random.key(0), X, True)
    y, _ = head.apply(v, X, True, mutable=["batch_stats"])
    return y, jax.tree.map(np.asarray, v["params"])
  y, p = run(byol_head(20, 8))
  hidden = np.maximum(standardise(X @ p["dense1"]["kernel"]), 0)
  np.testing.assert_allclose(y, hidden @ p["dense2"]["kernel"], atol=1e-5)
  y, p = run(moco_v2_head(output=8))
  hidden = np.maximum(X @ p["dense1"]["kernel"] + p["dense1"]["bias"], 0)
  np.testing.assert_allclose(y, hidden @ p["dense2"]["kernel"] + p["dense2"]["bias"], atol=1e-5)
  y, p = run(moco_v3_projector(20, 8))  # its last norm has a mean and a deviation, and no more
  hidden = np.maximum(standardise(X @ p["dense1"]["kernel"]), 0)
  np.testing.assert_allclose(y, standardise(hidden @ p["dense2"]["kernel"]), atol=1e-3)
  y, p = run(moco_v3_predictor(20, 8))
  hidden = np.maximum(standardise(X @ p["dense1"]["kernel"]), 0)
  np.testing.assert_allclose(y, hidden @ p["dense2"]["kernel"], atol=1e-4)
  y, p = run(simclr_head(2, output=8))
  hidden = np.maximum(standardise(X @ p["dense1"]["kernel"]), 0)
  np.testing.assert_allclose(y, standardise(hidden @ p["dense2"]["kernel"]), atol=1e-3)


def test_the_norm_of_a_head_may_be_grouped():
  grouped, whole = (byol_head(20, 8, norm=n) for n in (4, "global"))
  v = grouped.init(jax.random.key(0), X, True)
  y, _ = grouped.apply(v, X, True, mutable=["batch_stats"])
  parts = [whole.apply(v, x, True, mutable=["batch_stats"])[0] for x in np.split(X, 4)]
  np.testing.assert_allclose(y, np.concatenate(parts), atol=1e-5)


@pytest.mark.parametrize(("name", "deviation", "bias"), [
    ("torch", 1 / np.sqrt(3 * 256), 1 / np.sqrt(3 * 256)), ("normal", 0.01, 0), ("zeros", 0, 0),
    ("haiku", np.sqrt(0.7737 / 256), 0)])
def test_dense_layers_start_with_the_published_deviation(name, deviation, bias):
  v = Dense(512, dense_init=name).init(jax.random.key(0), np.zeros((1, 256), np.float32))
  np.testing.assert_allclose(v["params"]["kernel"].std(), deviation, rtol=0.02)
  np.testing.assert_allclose(v["params"]["bias"].std(), bias, rtol=0.1)


def test_every_dense_init_is_checked_above_or_told():
  assert set(DENSE_INITS) == {"torch", "normal", "zeros", "haiku"}
  with pytest.raises(UserError, match="did you mean 'haiku'"):
    Dense(3, dense_init="hiku").init(jax.random.key(0), X)


def test_low_precision_heads_give_float32():
  head = simclr_head(2, output=8, dtype=jnp.bfloat16)
  v = head.init(jax.random.key(0), X, True)
  y, new = head.apply(v, X, True, mutable=["batch_stats"])
  assert {leaf.dtype for leaf in jax.tree.leaves((v, new, y))} == {jnp.dtype("float32")}
  exact = simclr_head(2, output=8).apply(v, X, True, mutable=["batch_stats"])[0]
  assert 0 < float(np.abs(y - exact).max()) < 0.2


def test_prototype_scores_are_cosines():
  v = Prototypes(7).init(jax.random.key(0), X, True)
  rows = np.asarray(v["params"]["prototypes"])
  scores = Prototypes(7).apply(v, X, True)
  wanted = (X @ rows.T) / np.outer(np.linalg.norm(X, axis=1), np.linalg.norm(rows, axis=1))
  np.testing.assert_allclose(scores, wanted, atol=1e-6)
  gradient = jax.grad(lambda p: (Prototypes(7).apply({"params": p}, X, True) ** 2).sum())(
      v["params"])["prototypes"]
  np.testing.assert_allclose((gradient * rows).sum(1), 0, atol=1e-5)
