"""CLSA's methods and views: against the formula in f64, for every option, and law by law."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy.special import log_softmax
from skimage import data

from ssl_jax.augment import presets
from ssl_jax.augment.presets import preset
from ssl_jax.errors import UserError
from ssl_jax.methods import METHODS
from ssl_jax.methods.keys import SHUFFLE
from ssl_jax.ops import shuffle
from ssl_jax.types import Outputs, Run

B, D, QUEUE = 6, 5, 14
NAMES = ("key", "weak0", "weak1", "weak2", "strong0", "strong1")
KEY = jax.random.key(11)


def images_as_views(key, batch):
  """Every view of an image is its number, so that one sees where it went."""
  del key
  return {name: batch["index"] + 100.0 * i for i, name in enumerate(NAMES)}


def make(name, view_names=NAMES, **options):
  return METHODS[name](Run(None, images_as_views, B, 10, view_names=view_names),
                       queue=QUEUE, output=D, **options)


def unit(x):
  x = np.asarray(x, np.float64)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def embeddings():
  """What each network makes of each view, [B, D] in the order of the batch, and a queue."""
  random = np.random.default_rng(0)
  draw = lambda: random.standard_normal((B, D)).astype(np.float32)
  return ({name: draw() for name in NAMES}, {name: draw() for name in NAMES},
          unit(random.standard_normal((QUEUE, D))).astype(np.float32))


def outputs_of(method, online, target):
  """The outputs of a step whose key network saw the batch in another order."""
  order, _ = shuffle(jax.random.fold_in(KEY, SHUFFLE), B)
  keys = {view: target[view.removeprefix("target_")][order] for (view,) in method.target}
  return Outputs({view: {"projection": online[view]} for (view,) in method.online},
                 {view: {"projection": x} for view, x in keys.items()},
                 {"index": jnp.arange(B)}, KEY, jnp.int32(3))


def half(queries, strong, key, queue, which, alpha, tau, tau2):
  """The released code's loss for one set of keys; `which` says who the candidates are."""
  def cosines(view):
    view, keys = unit(view), unit(key)
    own = view @ keys.T if which == "batch_and_queue" else np.sum(view * keys, 1)[:, None]
    return np.concatenate([own, view @ queue.T.astype(np.float64)], 1)

  column = np.arange(B) if which == "batch_and_queue" else np.zeros(B, int)
  contrastive = sum(-log_softmax(cosines(q) / tau, 1)[np.arange(B), column].mean()
                    for q in queries)
  divergence = sum(
      -np.mean(np.sum(np.exp(log_softmax(cosines(q) / tau2, 1)) * log_softmax(cosines(s) / tau2, 1),
                      axis=1)) for q, s in itertools.product(queries, strong))
  return contrastive + alpha * divergence


@pytest.mark.parametrize("name", ["clsa", "clsa_symmetric"])
def test_the_loss_is_the_sum_over_views_of_keys_in_order(name, embeddings):
  online, target, queue = embeddings
  memory = {"queue": jnp.asarray(queue), "pointer": jnp.int32(10)}
  for which, alpha, tau, tau2 in (("batch_and_queue", 1.0, 0.2, 0.2),
                                  ("positive_and_queue", 0.5, 0.3, 0.1)):
    method = make(name, candidates=which, alpha=alpha, temperature=tau,
                  divergence_temperature=tau2)
    loss, after, metrics = method.loss(outputs_of(method, online, target), memory)
    strong, settings = [online["strong0"], online["strong1"]], (queue, which, alpha, tau, tau2)
    weak = [online["weak0"], online["weak1"], online["weak2"]]
    want, queued = half(weak, strong, target["key"], *settings), target["key"]
    if name == "clsa_symmetric":
      want += half([*weak[1:], online["key"]], strong, target["weak0"], *settings)
      queued = target["weak0"]
    np.testing.assert_allclose(loss, want, rtol=2e-6)
    np.testing.assert_allclose(
        metrics["contrastive_loss"] + alpha * metrics["divergence"], loss, rtol=1e-6)
    ring = queue.copy()
    ring[(10 + np.arange(B)) % QUEUE] = unit(queued)
    np.testing.assert_allclose(after["queue"], ring, atol=1e-6)
    assert after["pointer"] == (10 + B) % QUEUE


def test_every_view_is_a_forward_pass_of_its_own_and_only_the_symmetric_loss_trains_on_the_key():
  seen = {name: {view for (view,) in make(name).online} for name in ("clsa", "clsa_symmetric")}
  assert seen["clsa"] == set(NAMES) - {"key"}
  assert seen["clsa_symmetric"] == set(NAMES)
  assert make("clsa").target == (("key",),)


@pytest.mark.parametrize("name", ["clsa", "clsa_symmetric"])
def test_the_key_network_sees_the_batch_in_another_order_and_all_else_in_its_own(name):
  method, batch = make(name), {"index": jnp.arange(B)}
  views = method.views(KEY, batch)
  _, restore = shuffle(jax.random.fold_in(KEY, SHUFFLE), B)
  plain = images_as_views(KEY, batch)
  for (view,) in method.online:
    np.testing.assert_array_equal(views[view], plain[view])
  for (view,) in method.target:
    own = plain[view.removeprefix("target_")]
    np.testing.assert_array_equal(views[view][restore], own)
    assert np.any(views[view] != own)


@pytest.mark.parametrize("which", ["batch_and_queue", "positive_and_queue"])
@pytest.mark.parametrize("name", ["clsa", "clsa_symmetric"])
def test_equal_embeddings_cost_the_chance_loss(name, which):
  method = make(name, candidates=which, alpha=0.7)
  same = {view: np.ones((B, D), np.float32) for view in NAMES}
  memory = {"queue": jnp.asarray(unit(np.ones((QUEUE, D))), jnp.float32), "pointer": jnp.int32(0)}
  loss, *_ = method.loss(outputs_of(method, same, same), memory)
  np.testing.assert_allclose(loss, method.chance, rtol=1e-5)
  assert method.negatives == QUEUE + (B - 1 if which == "batch_and_queue" else 0)
  halves = 2 if name == "clsa_symmetric" else 1
  np.testing.assert_allclose(
      method.chance, halves * (3 + 0.7 * 3 * 2) * math.log(method.negatives + 1), rtol=1e-6)


def test_what_the_user_got_wrong_is_named():
  with pytest.raises(UserError, match=r"clsa needs the views key, weak0, .* not a, b; set config"):
    make("clsa", view_names=("a", "b"))
  with pytest.raises(UserError, match="strong"):
    make("clsa_symmetric", view_names=("key", "weak0"))
  with pytest.raises(UserError, match=r"config.method.candidates is 'queue'; .*and_queue"):
    make("clsa", candidates="queue")


def shapes(name, size):
  image = jax.ShapeDtypeStruct((40, 40, 3), jnp.uint8)
  extent = jax.ShapeDtypeStruct((2,), jnp.int32)
  return {view: jax.eval_shape(draw, KEY, image, extent).shape[0]
          for view, draw in preset(name, size=size, strength=0.0, blur=0.0).items()}


@pytest.mark.parametrize(("size", "sizes"), [
    (224, [224, 192, 160, 128, 96]), (28, [28, 24, 20, 16, 12])])
def test_crops_have_the_released_sizes_or_their_ratios(size, sizes):
  want = {"key": size} | {f"{kind}{i}": s for kind in ("weak", "strong")
                          for i, s in enumerate(sizes)}
  assert shapes("clsa_multi", size) == want
  assert list(preset("clsa_multi", size=size)) == list(want)
  assert shapes("clsa_single", size) == {"key": size, "weak0": size, "strong0": sizes[-1]}
  assert shapes("moco_v2_strong", size) == {"a": size, "b": size}


def test_crops_have_the_released_areas(monkeypatch):
  seen = {}

  def crop(key, image, extent, *, size, area):
    seen.setdefault(size, set()).add(area)
    return jnp.zeros((size, size, 3))

  monkeypatch.setattr(presets, "random_resized_crop", crop)
  monkeypatch.setattr(presets, "random_strong", lambda key, image, **settings: image)
  for view in preset("clsa_multi", size=224, strength=0.0, blur=0.0).values():
    view(KEY, None, None)
  assert seen == {224: {(0.2, 1.0)}, 192: {(0.172, 0.86)}, 160: {(0.143, 0.715)},
                  128: {(0.114, 0.571)}, 96: {(0.086, 0.429)}}


@pytest.mark.parametrize(("name", "strong", "weak"), [
    ("clsa_multi", "strong4", "weak4"), ("moco_v2_strong", "a", "b")])
def test_a_strong_view_is_a_weak_one_with_operations_on_its_levels(name, strong, weak):
  plain = {"size": 14, "strength": 0.0, "blur": 0.0, "mean": (0, 0, 0), "std": (1, 1, 1)}
  image, extent = data.astronaut()[:400:10, :400:10], jnp.array([40, 40])
  none, some = (preset(name, probability=p, **plain) for p in (0.0, 1.0))
  before, rounded, after = jax.jit(
      lambda image: [view(KEY, image, extent) for view in (none[weak], none[strong], some[strong])],
      compiler_options=tiny.QUICK)(image)
  np.testing.assert_allclose(rounded, jnp.round(before * 255) / 255, atol=1e-6)
  assert np.abs(after - before).max() > 0.1
