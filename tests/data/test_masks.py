"""Masks come back as they were written, for the images they were made of, or not at all."""

import pickle

import numpy as np
import pytest

from ssl_jax.data import masks, open_source
from ssl_jax.errors import UserError

MADE = {"method": "by hand"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  path = tmp_path_factory.mktemp("masks") / "images.npz"
  np.savez(path, images=np.arange(150, dtype=np.uint8)[:, None, None] * np.ones((4, 4), np.uint8))
  return open_source(f"npz:{path}", "train")


def mask(index):
  return np.random.default_rng(index).integers(0, 256, (3 + index % 5, 4), np.uint8)


def write(parts, which):
  for part in which:
    parts.write(part, map(mask, parts.span(part)))


def test_masks_come_back_as_written_each_in_its_own_size(source, tmp_path):
  parts = masks.begin(tmp_path, source, MADE, {})
  write(parts, parts.missing())
  opened = pickle.loads(pickle.dumps(masks.open_masks(tmp_path, source)))
  assert len(opened) == 150
  for i in (0, 63, 64, 149, 7):
    np.testing.assert_array_equal(opened[i], mask(i))
  with pytest.raises(IndexError):
    opened[150]


def test_a_folder_that_was_interrupted_is_gone_on_with(source, tmp_path):
  write(masks.begin(tmp_path, source, MADE, {"ssl_jax": "1"}), [1])
  again = masks.begin(tmp_path, source, MADE, {"ssl_jax": "2"})
  assert again.missing() == [0, 2]
  with pytest.raises(UserError, match="2 of 3 parts are missing"):
    masks.open_masks(tmp_path, source)

  def killed():
    yield mask(0)
    raise KeyboardInterrupt
  with pytest.raises(KeyboardInterrupt):
    again.write(0, killed())
  with pytest.raises(ValueError, match="1 masks for the 64 images"):
    again.write(0, [mask(0)])
  assert again.missing() == [0, 2] and len(list(tmp_path.iterdir())) == 2
  write(again, [0, 2])
  np.testing.assert_array_equal(masks.open_masks(tmp_path, source)[149], mask(149))


def test_what_a_killed_writer_left_is_swept(source, tmp_path):
  parts = masks.begin(tmp_path, source, MADE, {})
  (tmp_path / ".masks-00000-of-00003.array_record.tmp1").write_text("half")
  write(parts, parts.missing())
  parts.tidy()
  assert sorted(p.name[:5] for p in tmp_path.iterdir()) == ["masks"] * 3 + ["meta."]


def test_masks_of_something_else_are_refused_in_one_line(source, tmp_path):
  folder, used = tmp_path / "masks", tmp_path / "used"
  write(masks.begin(folder, source, MADE, {}), range(3))
  used.mkdir()
  (used / "photo.png").touch()
  some = open_source(source.spec, "train[:100]")
  for call, says in (
      (lambda: masks.begin(folder, some, MADE, {}), "holds other masks: fingerprint was"),
      (lambda: masks.begin(folder, source, {"method": "rbd"}, {}), "made was .*by hand"),
      (lambda: masks.begin(used, source, MADE, {}), "holds 'photo.png' and no masks"),
      (lambda: masks.begin(used / "photo.png", source, MADE, {}), "cannot be written"),
      (lambda: masks.open_masks(folder, some), "but the images are .*100 images"),
      (lambda: masks.open_masks(used, source), "is missing or broken; make them with"),
  ):
    with pytest.raises(UserError, match=says) as error:
      call()
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
