"""A mask travels with its image into every batch, and costs nothing where none is wanted."""

import dataclasses
import pickle

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from ssl_jax import data
from ssl_jax.data import foregrounds, masks
from ssl_jax.data.batches import pipeline
from ssl_jax.data.records import Records
from ssl_jax.errors import UserError


class Greys(Records):
  """Pieces of a photograph in many shapes, grey, whose mask is the image; some are unreadable."""

  def __init__(self, broken=()):
    self.broken = broken

  def __len__(self):
    return 24

  def __getitem__(self, index):
    if index in self.broken:
      return {"image": b"no image", "mask": b"no image", "label": index}
    grey = load_sample_image("china.jpg")[index:index + 20 + index % 7, 40:60 + index % 5, 1]
    return {"image": np.repeat(grey[..., None], 3, -1), "mask": grey, "label": index}

  def name(self, index):
    return f"grey {index}"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  path = tmp_path_factory.mktemp("npz") / "images.npz"
  np.savez(path, images=np.zeros((24, 8, 8), np.uint8), labels=np.arange(24))
  opened = data.open_source(f"npz:{path}", "train")
  return dataclasses.replace(opened, records=Greys())


def batches(source, **options):
  with pipeline(source, batch_size=6, canvas=16, seed=0, num_threads=2, **options) as made:
    return [next(made) for _ in range(3)]


def test_a_mask_is_squashed_like_its_image(source):
  masked = data.with_masks(source)
  for batch in batches(masked):
    assert batch["mask"].shape == (6, 16, 16) and batch["mask"].dtype == np.uint8
    np.testing.assert_array_equal(batch["mask"], batch["image"][..., 0])
  stored = data.load_all(masked, 16)
  np.testing.assert_array_equal(stored["mask"], stored["image"][..., 0])
  assert data.resident_bytes(masked, 16) == sum(v.nbytes for v in stored.values())


def test_an_image_that_is_replaced_brings_the_mask_of_its_replacement(source):
  broken = dataclasses.replace(source, records=Greys({3, 4, 20}))
  stored = data.load_all(dataclasses.replace(broken, masked=True), 16)
  np.testing.assert_array_equal(stored["mask"], stored["image"][..., 0])
  assert stored["label"][[3, 4, 20]].tolist() == [5, 5, 21]


def test_parts_of_a_masked_source_are_masked(source):
  first, rest = data.divide(data.with_masks(source), 10, seed=0)
  for part in (first, rest, data.sample(first, 5, seed=1)):
    stored = data.load_all(part, 16)
    np.testing.assert_array_equal(stored["mask"], stored["image"][..., 0])


def test_the_images_are_the_same_with_masks_and_without(source):
  masked = data.with_masks(source)
  assert masked.fingerprint == source.fingerprint
  for plain, both in zip(batches(source), batches(masked)):
    assert set(both) - set(plain) == {"mask"}
    for name, values in plain.items():
      np.testing.assert_array_equal(both[name], values)
  for batch in batches(masked, resident=True):
    assert set(batch) == {"index"}
  plain, both = ([*data.epoch(s, batch_size=10, canvas=16)][-1] for s in (source, masked))
  assert set(both) - set(plain) == {"mask"} and both["valid"].sum() == 4
  np.testing.assert_array_equal(both["mask"], both["image"][..., 0])


def test_masks_of_a_folder_join_their_images_and_can_travel_to_a_worker(source, tmp_path):
  parts = masks.begin(tmp_path / "masks", source, {"method": "by hand"}, {})
  parts.write(0, [np.full((9, 5), 10 * i, np.uint8) for i in range(24)])
  masked = data.with_masks(source, str(tmp_path / "masks"))
  stored = data.load_all(masked, 16)
  assert stored["mask"][:, 3, 7].tolist() == [10 * i for i in range(24)]
  records = pickle.loads(pickle.dumps(masked.records))
  assert records[7]["mask"].max() == 70 and records.name(7) == "grey 7"
  other = dataclasses.replace(source, fingerprint="others")
  with pytest.raises(UserError, match="are of"):
    data.with_masks(other, str(tmp_path / "masks"))


def test_what_stands_out_is_the_naive_loop_with_holes_filled():
  image = np.full((20, 24, 3), 90, np.int64) + np.random.default_rng(0).integers(-6, 7, (20, 24, 3))
  image[4:15, 5:18, 1] += 60
  image[8:11, 9:12] = 90  # a hole
  image[17, 20] = 120
  border = [image[y, x] for y in range(20) for x in range(24) if y in (0, 19) or x in (0, 23)]
  expected = np.zeros((20, 24), np.uint8)
  for y in range(20):
    for x in range(24):
      if max(abs(image[y, x, c] - np.median([b[c] for b in border])) for c in range(3)) > 16:
        expected[y, x] = 255
  assert expected[9, 10] == 0
  expected[8:11, 9:12] = 255
  np.testing.assert_array_equal(foregrounds.stands_out(image.astype(np.uint8)), expected)


def test_garments_stand_out_from_black():
  garments = data.open_source("bundled:fashion_mnist_mini", "train[:64]")
  stored = data.load_all(data.with_masks(garments, "threshold"), 28)
  assert set(np.unique(stored["mask"])) == {0, 255}
  lit = stored["image"][..., 0] > 16
  assert (stored["mask"] > 0)[lit].mean() > 0.95
  assert 0.2 < (stored["mask"] > 0).mean() < 0.8


def test_images_without_masks_say_how_to_make_them():
  garments = data.open_source("bundled:fashion_mnist_mini", "train[:64]")
  with pytest.raises(UserError) as told:
    data.with_masks(garments)
  line = str(told.value)
  assert "\n" not in line
  assert "python -m ssl_jax.saliency --data bundled:fashion_mnist_mini --split 'train[:64]'" in line
