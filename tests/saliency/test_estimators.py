"""Every estimator is held to the same laws, on pictures whose answer is plain."""

import numpy as np
import pytest
from skimage import data
from sklearn.metrics import roc_auc_score

from ssl_jax import saliency
from ssl_jax.errors import UserError
from ssl_jax.saliency import frame

each = pytest.mark.parametrize("method", sorted(saliency.METHODS))
SKY, GOLD, MOSS = (40, 70, 120), (220, 190, 60), (30, 60, 50)


def disc(shape=(64, 64), centre=(0.5, 0.5), radius=0.22):
  rows, columns = np.mgrid[:shape[0], :shape[1]]
  return np.hypot(rows / shape[0] - centre[0], columns / shape[1] - centre[1]) < radius


def picture(mask, inside=GOLD, outside=SKY, noise=6.0):
  image = np.where(mask[..., None], np.array(inside), np.array(outside))
  image = image + noise * np.random.default_rng(0).normal(size=image.shape)
  return np.clip(image, 0, 255).astype(np.uint8)


@each
def test_a_disc_on_plain_ground_is_found(method):
  aside = disc((48, 64), (0.4, 0.6), 0.2)
  for mask, image in ((disc(), picture(disc())), (disc(), picture(disc(), MOSS, GOLD)),
                      (aside, picture(aside, MOSS)), (disc((32, 32)), picture(disc((32, 32))))):
    found = saliency.estimate(image, method)
    assert roc_auc_score(mask.ravel(), found.ravel()) > 0.99
    assert found[mask].mean() > 0.85 and found[~mask].mean() < 0.1


@each
def test_what_only_the_border_shows_is_background(method):
  corner = np.zeros((64, 64), bool)
  corner[:10], corner[10:20, :12] = True, True
  image = picture(disc())
  image[corner] = (200, 30, 30)
  found = saliency.estimate(image, method)
  assert found[corner].mean() < 0.05 and found[disc()].mean() > 0.85


@each
def test_a_mirrored_image_has_the_mirrored_map(method):
  image = data.cat()[::6, ::6]
  there = saliency.estimate(np.ascontiguousarray(image[:, ::-1]), method)[:, ::-1]
  here = saliency.estimate(image, method)
  assert np.corrcoef(here.ravel(), there.ravel())[0, 1] > 0.85  # the superpixels are others


@each
def test_any_image_has_a_map_from_0_to_1_and_always_the_same(method):
  noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
  for image in (noise, noise[:2], noise[:, :1], np.repeat(picture(disc())[..., :1], 3, -1)):
    found = saliency.estimate(image, method)
    assert found.shape == image.shape[:2] and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1  # which nan is not
    np.testing.assert_array_equal(found, saliency.estimate(image.copy(), method))
  for flat in (np.full((40, 30, 3), 77, np.uint8), noise[:1, :1]):
    assert (saliency.estimate(flat, method) == 0).all()


@each
def test_a_smaller_working_size_finds_the_same(method):
  image, mask = picture(disc((150, 200))), disc((150, 200))
  coarse, fine = (saliency.estimate(image, method, size) for size in (96, 200))
  assert np.abs(coarse - fine).mean() < 0.03
  assert coarse.shape == fine.shape == mask.shape


def test_the_mean_is_the_mean_of_the_four():
  image = picture(disc((96, 96)))
  maps = [saliency.estimate(image, method) for method in saliency.CLASSICAL]
  np.testing.assert_allclose(saliency.estimate(image, "mean"), np.mean(maps, 0), atol=1e-6)


@pytest.mark.parametrize("rule", [frame.without_frame, frame.without_frame_strict])
def test_a_frame_is_cut_and_a_picture_without_one_is_not(rule):
  image = picture(disc((120, 150)))
  assert rule(image) == (slice(0, 120), slice(0, 150))
  assert rule(image[:1]) == (slice(0, 1), slice(0, 150))
  framed = image.copy()
  framed[:6], framed[-6:], framed[:, :6], framed[:, -6:] = (250,) * 4
  rows, columns = rule(framed)
  assert 6 <= rows.start <= 9 and 111 <= rows.stop <= 114
  assert 6 <= columns.start <= 9 and 141 <= columns.stop <= 144


def test_a_frame_that_one_side_shows_is_cut_there_by_either_rule():
  image = picture(disc((120, 150)), noise=0)
  image[:5] = 250
  # The step has the same derivative in rows 4 and 5, so the frame is found 6 pixels wide.
  assert frame.without_frame_strict(image) == (slice(8, 120), slice(0, 150))
  assert frame.without_frame(image) == (slice(6, 114), slice(6, 144))


def test_a_framed_object_is_found_all_the_same():
  mask = disc((120, 120))
  image = picture(mask)
  image[:5], image[-5:], image[:, :5], image[:, -5:] = (255,) * 4
  for method in ("gs", "rbd", "mbd", "mbd+"):
    assert roc_auc_score(mask.ravel(), saliency.estimate(image, method).ravel()) > 0.99


def test_mistakes_are_told():
  with pytest.raises(UserError, match=r"'rdb' does not exist; did you mean 'rbd'\?"):
    saliency.estimate(picture(disc()), "rdb")
  with pytest.raises(UserError, match=r"float64\[64, 64\], must be uint8\[H,W,3\]"):
    saliency.estimate(np.zeros((64, 64)), "rbd")
