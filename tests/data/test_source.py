"""One spec string opens every kind of source, and every mistake is answered in one line."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ssl_jax import data
from ssl_jax.data.source import Skipped
from ssl_jax.errors import UserError


def write_image(path, value=0, size=(6, 5)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("RGB", size, (value, 0, 0)).save(path)


def names(source):
  return {source.records.name(i).rsplit("/", 1)[1]: source.records[i]["label"]
          for i in range(len(source))}


@pytest.fixture
def classes(tmp_path):
  """Two classes; `cat` is nested and has a hidden and a foreign file."""
  for i in range(4):
    write_image(tmp_path / "dog" / f"d{i}.png", i)
    write_image(tmp_path / "cat" / "deep" / "er" / f"c{i}.JPG", i)
  write_image(tmp_path / "cat" / ".hidden.png")
  (tmp_path / "cat" / "notes.txt").write_text("no image")
  return tmp_path


def test_the_bundled_set_is_balanced_and_real():
  for split, count in (("train", 1000), ("test", 200)):
    source = data.open_source("bundled:fashion_mnist_mini", split)
    loaded = data.load_all(source, 28)
    assert np.bincount(loaded["label"]).tolist() == [count] * 10
    assert source.image_shape == (28, 28) and source.class_names[9] == "Ankle boot"
    assert loaded["image"].shape == (10 * count, 28, 28, 3)
    assert 60 < loaded["image"].mean() < 90  # 72.9 over the whole of Fashion-MNIST


def test_folders_are_classes_and_nesting_belongs_to_the_class_above(classes):
  source = data.open_source(f"folder:{classes}", "train")
  assert source.class_names == ("cat", "dog")
  assert names(source) == {f"{n}": int(n[0] == "d") for n in
                           [f"d{i}.png" for i in range(4)] + [f"c{i}.JPG" for i in range(4)]}
  assert isinstance(source.records[0]["image"], bytes)


def test_a_flat_folder_is_unlabelled(tmp_path):
  for i in range(3):
    write_image(tmp_path / f"{i}.png")
  source = data.open_source(f"folder:{tmp_path}", "train")
  assert source.class_names == () and set(names(source).values()) == {-1}


def test_images_beside_the_folders_make_the_set_unlabelled(classes):
  write_image(classes / "stray.png")
  source = data.open_source(f"folder:{classes}", "train")
  assert source.class_names == () and len(source) == 9 and set(names(source).values()) == {-1}


def test_split_folders_share_one_list_of_classes(tmp_path):
  for split, kinds in (("train", "abc"), ("val", "ac")):
    for kind in kinds:
      write_image(tmp_path / split / kind / f"{kind}.png")
  assert names(data.open_source(f"folder:{tmp_path}", "train")) == {"a.png": 0, "b.png": 1,
                                                                    "c.png": 2}
  assert names(data.open_source(f"folder:{tmp_path}", "val")) == {"a.png": 0, "c.png": 2}
  with pytest.raises(UserError, match=r"no split 'test'; it has train, val$"):
    data.open_source(f"folder:{tmp_path}", "test")


def test_a_class_called_train_is_a_class(tmp_path):
  for kind in ("car", "train"):
    write_image(tmp_path / kind / f"{kind}.png")
  assert data.open_source(f"folder:{tmp_path}", "train").class_names == ("car", "train")


def test_the_head_of_a_folder_is_a_sample_of_all_classes(tmp_path):
  for kind in "abcd":
    for i in range(50):
      (tmp_path / kind).mkdir(exist_ok=True)
      (tmp_path / kind / f"{i}.png").write_bytes(b"")
  source = data.open_source(f"folder:{tmp_path}", "train[:25%]")
  assert np.bincount([source.records[i]["label"] for i in range(50)], minlength=4).min() >= 5


def test_links_are_followed_but_not_in_a_circle(classes):
  (classes / "dog" / "loop").symlink_to(classes, target_is_directory=True)
  (classes / "wolf").symlink_to(classes / "cat", target_is_directory=True)
  source = data.open_source(f"folder:{classes}", "train")
  assert len(source) == 12 and source.class_names == ("cat", "dog", "wolf")


def test_a_broken_link_is_kept_to_be_named_later(classes):
  (classes / "dog" / "broken.png").symlink_to(classes / "nowhere")
  source = data.open_source(f"folder:{classes}", "train")
  assert len(source) == 9
  data.load_all(source, 4)
  assert source.skipped.news() == [
      f"skipped unreadable image {classes}/dog/broken.png: [Errno 2] No such file or directory: "
      f"'{classes}/dog/broken.png'"]


def test_a_folder_without_a_test_split_says_how_to_hold_images_out(classes):
  with pytest.raises(UserError, match=r"no split 'test'.*train\[90%:\]"):
    data.open_source(f"folder:{classes}", "test")


@pytest.mark.parametrize("keys", [
    {"images": "train", "labels": "train"}, {"image": "train", "label": "train"},
    {"train_images": "train", "train_labels": "train", "test_images": "test",
     "test_labels": "test"},
    {"x_train": "train", "y_train": "train", "x_test": "test", "y_test": "test"}],
    ids=lambda keys: next(iter(keys)))
def test_npz_keys(tmp_path, keys):
  images = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
  np.savez(tmp_path / "a.npz", **{
      k: images if k[0] == "x" or "image" in k else np.array([[0], [1], [1], [2]])
      for k in keys})
  for split in sorted(set(keys.values())):
    source = data.open_source(f"npz:{tmp_path}/a.npz", split)
    assert [source.records[i]["label"] for i in range(4)] == [0, 1, 1, 2]
    assert source.class_names == ("0", "1", "2") and source.image_shape == (6, 5)
    np.testing.assert_array_equal(source.records[3]["image"], images[3])


def test_npz_without_labels(tmp_path):
  np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4, 3), np.uint8))
  source = data.open_source(f"npz:{tmp_path}/a.npz", "train")
  assert source.class_names == () and source.records[1]["label"] == -1


def test_sub_splits_and_sums_address_the_records_of_the_whole():
  whole = data.open_source("bundled:fashion_mnist_mini", "test")
  part = data.open_source("bundled:fashion_mnist_mini", "test[10:20]+test[-5:]")
  for i, j in enumerate([*range(10, 20), *range(1995, 2000)]):
    np.testing.assert_array_equal(part.records[i]["image"], whole.records[j]["image"])
    assert part.records.name(i) == whole.records.name(j)
  assert len(part) == 15
  assert [r["label"] for r in part.records.__getitems__([0, 14])] == [
      whole.records[10]["label"], whole.records[1999]["label"]]


def test_a_fingerprint_tells_contents_apart_and_not_places(tmp_path):
  arrays = {"images": np.zeros((40, 4, 4), np.uint8), "labels": np.arange(40) % 3}
  other = {**arrays, "images": np.ones((40, 4, 4), np.uint8)}
  for name, members in (("a", arrays), ("b", arrays), ("c", other),
                        ("d", {**arrays, "labels": np.arange(40) % 4})):
    np.savez(tmp_path / f"{name}.npz", **members)
  prints = {n: data.open_source(f"npz:{tmp_path}/{n}.npz", "train").fingerprint for n in "abcd"}
  assert prints["a"] == prints["b"] and len(set(prints.values())) == 3
  half = data.open_source(f"npz:{tmp_path}/a.npz", "train[:50%]").fingerprint
  assert half != prints["a"]


BAD = {
    "bundled:cifar": "bundled:cifar does not come with the package; known: digits, fashion_mnist",
    "bundled:fashion_mnist_min": "did you mean 'fashion_mnist_mini'",
    "folders:/x": "did you mean 'folder'.*write bundled:",
    "fashion_mnist": "'fashion_mnist' is not understood; write bundled:",
    "folder:": "is not understood",
    "folder:/nowhere/at/all": "folder:/nowhere/at/all: there is no such folder",
    "npz:/nowhere.npz": "npz:/nowhere.npz: there is no such file",
}


@pytest.mark.parametrize("spec", BAD)
def test_a_spec_that_cannot_be_opened_is_named(spec):
  with pytest.raises(UserError, match=BAD[spec]) as error:
    data.open_source(spec, "train")
  assert "\n" not in str(error.value)


def test_an_empty_folder_is_named(tmp_path):
  (tmp_path / "sub").mkdir()
  (tmp_path / "sub" / "readme.md").write_text("")
  with pytest.raises(UserError, match=rf"{tmp_path} holds no image; .*\.jpeg"):
    data.open_source(f"folder:{tmp_path}", "train")


@pytest.mark.parametrize(("members", "message"), [
    ({"pictures": np.zeros(3)}, "holds pictures; its keys must be images and labels"),
    ({"images": np.zeros((2, 4, 4), np.float32)}, "float32, must be uint8"),
    ({"images": np.zeros((2, 4), np.uint8)}, r"shape \[2, 4\]"),
    ({"images": np.zeros((2, 3, 8, 8), np.uint8)}, "channels last"),
    ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)}, r"int64\[3\]"),
    ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(2)}, "float64"),
    ({"images": np.array([object()])}, "no whole .npz"),
    ({"images": np.zeros((0, 4, 4), np.uint8)}, "holds no image"),
    ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.array([0, 5]),
      "class_names": np.array(["a", "b"])}, "2 names for labels up to 5"),
])
def test_a_wrong_npz_is_named(tmp_path, members, message):
  np.savez(tmp_path / "a.npz", **members)
  with pytest.raises(UserError, match=message) as error:
    data.open_source(f"npz:{tmp_path}/a.npz", "train")
  assert "a.npz" in str(error.value) and "\n" not in str(error.value)


def test_a_truncated_npz_is_named(tmp_path):
  whole = io.BytesIO()
  np.savez_compressed(whole, images=np.zeros((2, 4, 4), np.uint8))
  for cut in (0, 10, len(whole.getvalue()) // 2):
    (tmp_path / "a.npz").write_bytes(whole.getvalue()[:cut])
    with pytest.raises(UserError, match=r"a\.npz is no whole \.npz file"):
      data.open_source(f"npz:{tmp_path}/a.npz", "train")


def test_skipped_images_are_named_once_and_limited():
  skipped = Skipped("folder:x", count=1000, limit=2)
  skipped.add("a.jpg", "truncated")
  skipped.add("a.jpg", "truncated")
  assert skipped.news() == ["skipped unreadable image a.jpg: truncated"] and skipped.news() == []
  skipped.add("b.jpg", "truncated")
  assert len(skipped) == 2 and len(skipped.news()) == 1
  with pytest.raises(UserError, match=r"3 of 1000 images .* limit of 2; the last is c\.jpg"):
    skipped.add("c.jpg", "truncated")


def test_the_limit_is_one_percent_and_at_least_ten():
  for split, limit in (("train", 100), ("train[:50]", 10), ("test", 20)):
    assert data.open_source("bundled:fashion_mnist_mini", split).skipped.limit == limit


def test_opening_a_source_imports_no_model_library():
  code = ("import sys; from ssl_jax import data; "
          "data.open_source('bundled:fashion_mnist_mini', 'test'); "
          "print(*{'flax', 'optax', 'tensorflow', 'tensorflow_datasets'} & set(sys.modules))")
  found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert found.stdout.split() == []
