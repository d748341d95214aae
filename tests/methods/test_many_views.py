"""ReLIC, ReLICv2 and MoCo v3: which views go where, and which pairs their losses add up."""

import jax
import numpy as np
import pytest
import tiny

from ssl_jax import losses
from ssl_jax.errors import UserError
from ssl_jax.methods import make_method
from ssl_jax.methods.relic import CANDIDATES
from ssl_jax.types import Outputs, Run

B, D, TAU = 6, 5, 0.3
SIX = ("large0", "large1", "large2", "large3", "small0", "small1")


def make(name, views=SIX, batch_size=B, **options):
  return make_method(name, Run(tiny.Bare(), tiny.noisy(views), batch_size, 100, view_names=views),
                     **options)


def embeddings(views, head, seed):
  return {view: {head: jax.random.normal(jax.random.key(seed + i), (B, D))}
          for i, view in enumerate(views)}


def outputs(online, target, head="projection"):
  return Outputs(embeddings(online, head, 0), embeddings(target, "projection", 50),
                 {"index": np.arange(B)}, jax.random.key(7), 0)


def flat(route):
  assert all(len(names) == 1 for names in route)  # every view has BatchNorm of its own
  return [name for names in route for name in names]


def test_small_views_go_through_the_online_network_only():
  method = make("relicv2", negatives=3)
  assert flat(method.online) == list(SIX)
  assert flat(method.target) == list(SIX[:4])


@pytest.mark.parametrize(("reading", "same_view", "count"), [
    ("swap_roles", True, 24), ("swap_views", False, 20), ("same_targets", True, 24)])
def test_relicv2_is_the_mean_over_its_pairs(reading, same_view, count):
  method = make("relicv2", negatives=3, temperature=TAU, same_view=same_view, invariance=reading,
                contrastive_weight=0.7, invariance_weight=2.0)
  out = outputs(SIX, SIX[:4])
  candidates = losses.draw_candidates(jax.random.fold_in(out.key, CANDIDATES), B, 3)
  o, t = ({view: x["projection"] for view, x in side.items()} for side in (out.online, out.target))
  total, terms = 0.0, 0
  for a in SIX:
    for b in SIX[:4]:
      if a == b and not same_view:
        continue
      other = {"swap_roles": (t[b], o[a]), "same_targets": (o[b], t[b]),
               "swap_views": (o[b], t[a] if a in t else t[b])}[reading]
      total += 0.7 * losses.relic_contrastive(o[a], t[b], candidates, TAU)
      total += 2.0 * losses.relic_invariance(o[a], t[b], *other, candidates, TAU)
      terms += 1
  assert terms == count
  value, memory, metrics = jax.jit(method.loss, compiler_options=tiny.QUICK)(out, ())
  np.testing.assert_allclose(value, total / count, rtol=1e-5)
  np.testing.assert_allclose(
      0.7 * metrics["contrastive_loss"] + 2.0 * metrics["invariance_loss"], value, rtol=1e-5)
  assert memory == ()


def test_without_the_invariance_term_relic_is_info_nce_both_ways():
  method = make("relic", ("a", "b"), temperature=TAU, invariance_weight=0.0)
  out = outputs("ab", "ab")
  want = sum(losses.batch_info_nce(out.online[a]["projection"], out.target[b]["projection"], TAU)
             for a, b in ("ab", "ba")) / (2 * TAU)
  value, _, metrics = jax.jit(method.loss)(out, ())
  np.testing.assert_allclose(value, want, rtol=1e-5)
  assert metrics["invariance_loss"] > 0
  np.testing.assert_allclose(method.chance, 2 * np.log(B))


def test_moco_v3_compares_each_prediction_with_the_keys_of_the_other_view():
  method = make("moco_v3", ("a", "b"), temperature=TAU)
  out = outputs("ab", "ab", "prediction")
  want = sum(losses.batch_info_nce(out.online[a]["prediction"], out.target[b]["projection"], TAU)
             for a, b in ("ab", "ba"))
  np.testing.assert_allclose(jax.jit(method.loss)(out, ())[0], want, rtol=1e-5)
  np.testing.assert_allclose(method.chance, 4 * TAU * np.log(B))
  assert flat(method.online) == flat(method.target) == ["a", "b"]
  np.testing.assert_allclose([method.decay(k) for k in (0, 50, 100)], [.99, .995, 1.], atol=1e-6)


@pytest.mark.parametrize(("options", "message"), [
    ({"negatives": 6}, "negatives is 6, and a batch of 6 has 5 other images"),
    ({"negatives": 2, "invariance": "swap_role"}, "did you mean 'swap_roles'"),
    ({"negatives": 2, "views": ("a", "b")}, "among a, b; it needs large0"),
    ({"negatives": 2, "views": ("large0",), "same_view": False}, "no pair of views among large0")])
def test_what_cannot_be_compared_is_told(options, message):
  with pytest.raises(UserError, match=message):
    make("relicv2", **options)
