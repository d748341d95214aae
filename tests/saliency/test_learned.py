"""A network learns what the estimators tell it, from a file it is the same, and its loss is F."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import fbeta_score, roc_auc_score

from ssl_jax.errors import UserError
from ssl_jax.models.saliency_net import SaliencyNet
from ssl_jax.saliency import estimate_with, learned

NET = SaliencyNet((8, 16))
SIDE = 32


def scenes(count, seed=0):
  """Bright discs on dark ground, and maps that show them poorly."""
  rng = np.random.default_rng(seed)
  rows, columns = np.mgrid[:SIDE, :SIDE]
  where = rng.uniform(9, 23, (2, count, 1, 1))
  discs = np.hypot(rows - where[0], columns - where[1]) < 7
  images = np.where(discs[..., None], (200, 180, 90), (60, 80, 110))
  images = np.clip(images + rng.normal(0, 12, images.shape), 0, 255).astype(np.uint8)
  maps = np.clip(0.5 * discs + rng.normal(0.2, 0.15, discs.shape), 0, 1)
  return images, maps.astype(np.float32), discs


def test_the_loss_is_one_minus_f_of_what_is_claimed():
  rng = np.random.default_rng(0)
  claimed, there = rng.random((2, 3, 6, 6)) < 0.4
  scores = [fbeta_score(t.ravel(), c.ravel(), beta=0.3 ** 0.5) for c, t in zip(claimed, there)]
  floats = [jnp.asarray(x, jnp.float32) for x in (claimed, there)]
  everywhere = jnp.ones((3, 6, 6))
  assert float(learned.f_loss(*floats, everywhere, 0.3)) == pytest.approx(1 - np.mean(scores))
  # Pixels of no weight do not count, whatever is claimed of them.
  half = everywhere.at[:, 3:].set(0)
  spoilt = floats[0].at[:, 3:].set(1)
  assert learned.f_loss(spoilt, floats[1], half, 0.3) == learned.f_loss(*floats, half, 0.3)
  assert learned.f_loss(*floats, 0 * half, 0.3) == 0


def test_a_label_counts_more_the_further_it_is_from_the_threshold():
  labels = jnp.array([[[0.0, 0.1, 0.2, 0.5]], [[0.0, 0.0, 0.0, 0.0]]])  # the means: 0.2 and 0
  target, weight = learned.to_targets(labels, 1.5)
  assert target[0, 0].tolist() == [0, 0, 0, 1] and not target[1].any()
  np.testing.assert_allclose(weight[0, 0], [1, 2 / 3, 1 / 3, 2 / 7], rtol=1e-5)
  assert not weight[1].any()  # nothing was found there


def test_labels_are_mirrored_with_their_images_and_colours_change():
  images = jnp.linspace(0.3, 0.4, 32 * 8)[:, None, None, None] * jnp.ones((256, 1, 8, 3))
  images = images.at[:, :, :2].add(0.2)  # the left is brighter
  labels = (images > 0.45).astype(jnp.float32)[..., 0]
  found, moved = learned.distort(jax.random.key(0), images, labels)
  left = np.asarray(moved[:, 0, 0])
  assert 90 < left.sum() < 166  # half of them
  bright = np.asarray(found.mean(-1)[:, 0])
  np.testing.assert_array_equal(bright[:, 0] > bright[:, -1], left == 1)
  assert found.min() >= 0 and found.max() <= 1
  assert np.std(found[:, 0, 4], axis=0).min() > 0.1  # each channel by itself
  assert np.corrcoef(found[:, 0, 4, 0], found[:, 0, 4, 1])[0, 1] < 0.3


@pytest.fixture(scope="module")
def taught():
  images, maps, _ = scenes(32)
  lines = []
  teaching = learned.Teaching(epochs=8, rounds=1, batch_size=8, learning_rate=1e-2)
  params = learned.train(images, maps, jax.random.key(0), teaching, module=NET, say=lines.append)
  return params, lines


def test_the_network_finds_what_noisy_maps_agree_on(taught):
  params, lines = taught
  images, maps, discs = scenes(8, seed=1)
  found = learned.predict(NET, params, images, 3)
  assert found.shape == discs.shape and found.min() >= 0 and found.max() <= 1
  assert roc_auc_score(discs.ravel(), found.ravel()) > roc_auc_score(discs.ravel(), maps.ravel())
  losses = [float(line.split()[-1]) for line in lines]
  assert len(losses) == 16 and losses[7] < 0.75 * losses[0] and losses[-1] < losses[7]
  assert lines[-1].startswith("round 2/2  epoch 8/8  loss ")


def test_a_saved_network_is_the_same_and_takes_any_size(taught, tmp_path):
  params, _ = taught
  learned.save(tmp_path / "net.npz", params, SIDE, NET)
  estimator = learned.load(tmp_path / "net.npz")
  images, _, discs = scenes(2, seed=2)
  direct = learned.predict(NET, params, images, 2)
  np.testing.assert_allclose(estimator(images[0]), direct[0], atol=1e-5)
  wide = np.repeat(images[1], 3, axis=1)
  found = estimate_with(estimator, wide)
  assert found.shape == (SIDE, 3 * SIDE) and found.dtype == np.float32
  assert roc_auc_score(np.repeat(discs[1], 3, axis=1).ravel(), found.ravel()) > 0.97


def test_a_file_that_is_no_network_is_refused_in_one_line(tmp_path):
  (tmp_path / "text.npz").write_text("no")
  np.savez(tmp_path / "other.npz", images=np.zeros(3))
  for name in ("text.npz", "other.npz", "none.npz"):
    with pytest.raises(UserError, match="no network of") as error:
      learned.load(tmp_path / name)
    assert "\n" not in str(error.value)
