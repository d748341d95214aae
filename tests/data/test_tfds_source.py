"""TFDS sets: the one we build, the stock ones by their schema, and what is missing."""

import hashlib
import importlib.util
import io
import json
import pathlib
import pickle
import socket
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from ssl_jax import data
from ssl_jax.data import fashion_mnist, tfds_source
from ssl_jax.data.batches import pipeline
from ssl_jax.data.records import Chosen
from ssl_jax.errors import UserError

READ = fashion_mnist.read


def some(split, data_dir=None):
  """The head of Fashion-MNIST: the whole takes 20 seconds to build."""
  images, labels = READ(split, data_dir)
  return (images[:700], labels[:700]) if split == "train" else (images[:150], labels[:150])


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """A data folder in which the head of Fashion-MNIST was built."""
  folder = tmp_path_factory.mktemp("tfds")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(fashion_mnist, "read", some)
    data.open_source("tfds:fashion_mnist", "train", data_dir=folder)
  return folder


@pytest.fixture
def no_network(monkeypatch):
  def refuse(*args, **kwargs):
    raise socket.gaierror(-3, "Temporary failure in name resolution")

  monkeypatch.setattr(socket, "getaddrinfo", refuse)


def pixels_of(images):
  return sorted(hashlib.sha256(np.ascontiguousarray(i).tobytes()).hexdigest() for i in images)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_built_set_holds_the_original_images(data_dir, split):
  source = data.open_source("tfds:fashion_mnist", split, data_dir=data_dir)
  images, labels = some(split)
  loaded = data.load_all(source, 28)
  assert isinstance(source.records[0]["image"], bytes)
  assert source.class_names == fashion_mnist.CLASS_NAMES and source.image_shape == (28, 28)
  assert pixels_of(loaded["image"]) == pixels_of(np.repeat(images[..., None], 3, -1))
  label_of = {images[i].tobytes(): labels[i] for i in range(len(images))}
  assert [label_of[i.tobytes()] for i in loaded["image"][..., 0]] == loaded["label"].tolist()


def test_the_stock_reader_reads_the_built_set(data_dir):
  stock = tfds.data_source("fashion_mnist", data_dir=data_dir, split="test")
  ours = data.open_source("tfds:fashion_mnist", "test", data_dir=data_dir)
  assert len(stock) == len(ours) == 150
  for i in range(0, 150, 30):
    np.testing.assert_array_equal(stock[i]["image"], data.decode(ours.records[i]["image"])[..., :1])
    assert stock[i]["label"] == ours.records[i]["label"]


def test_records_lie_in_the_order_that_the_stock_builder_gives_them(data_dir):
  # TFDS orders records by the hash of their keys, which are the positions in the original file.
  from tensorflow_datasets.core import hashing
  images, _ = some("test")
  order = sorted(range(150), key=lambda i: hashing.Hasher("test").hash_key(i))
  source = data.open_source("tfds:fashion_mnist", "test", data_dir=data_dir)
  for record, original in zip(source.records.__getitems__(range(150)), order):
    np.testing.assert_array_equal(data.decode(record["image"])[..., 0], images[original])


def test_the_schema_is_that_of_the_stock_builder(data_dir):
  folder = data_dir / "fashion_mnist" / "3.0.1"
  features = json.loads((folder / "features.json").read_text())
  stock = tfds.builder_cls("fashion_mnist")
  assert str(stock.VERSION) == folder.name
  image = features["featuresDict"]["features"]["image"]["image"]
  assert image == {"dtype": "uint8", "shape": {"dimensions": ["28", "28", "1"]}}
  assert (folder / "label.labels.txt").read_text().split("\n")[:10] == list(
      fashion_mnist.CLASS_NAMES)
  assert not list(data_dir.glob("fashion_mnist_*")), "the scratch folder is gone"


def test_a_prepared_set_is_not_built_again(data_dir, monkeypatch):
  monkeypatch.setattr(fashion_mnist, "read", lambda *args: pytest.fail("read again"))
  monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
  assert len(data.open_source("tfds:fashion_mnist", "train[:50%]")) == 350


def test_a_build_that_comes_second_keeps_the_first(data_dir, monkeypatch):
  from ssl_jax.data import fashion_mnist_builder
  monkeypatch.setattr(fashion_mnist, "read", some)
  folder = data_dir / "fashion_mnist" / "3.0.1"
  before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
  fashion_mnist_builder.build(epath.Path(data_dir))
  assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before
  assert [p.name for p in data_dir.iterdir()] == ["fashion_mnist"]


def test_an_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
  class Interrupt(Exception):
    pass

  def interrupted(split, data_dir=None):
    images, labels = some(split)
    return Failing(images), labels

  class Failing(list):
    def __iter__(self):
      yield self[0]
      raise Interrupt

  monkeypatch.setattr(fashion_mnist, "read", interrupted)
  with pytest.raises(Interrupt):
    data.open_source("tfds:fashion_mnist", "train", data_dir=tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_records_travel_to_worker_processes(data_dir):
  source = data.open_source("tfds:fashion_mnist", "train", data_dir=data_dir)
  there = pickle.loads(pickle.dumps(source.records))
  assert there[5] == source.records[5]


def test_two_processes_read_disjoint_shares(data_dir):
  source = data.open_source("tfds:fashion_mnist", "train", data_dir=data_dir)
  seen = []
  for p in (0, 1):
    with pipeline(source, batch_size=50, canvas=28, seed=0, process_index=p,
                  process_count=2) as batches:
      seen.append({int(i) for _ in range(7) for i in next(batches)["index"]})
  assert len(seen[0]) == len(seen[1]) == 350 and not seen[0] & seen[1]


def test_no_tensorflow_is_imported(data_dir):
  code = (f"import sys; from ssl_jax import data; "
          f"s = data.open_source('tfds:fashion_mnist', 'test', data_dir={str(data_dir)!r}); "
          f"data.load_all(s, 28); print('tensorflow' in sys.modules)")
  ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert ran.stdout.split() == ["False"]


class Encoded:
  """A mocked builder. Mocking encodes images with TensorFlow, so here Pillow does it."""

  def __init__(self, builder):
    self.builder = builder
    self.info = builder.info

  def as_data_source(self, split, decoders):
    self.examples = self.builder.as_data_source(split=split)
    self.encoded = set(decoders)
    return self

  def __getitem__(self, index):
    return {k: self.png(v) if k in self.encoded else v for k, v in self.examples[index].items()}

  def __getitems__(self, indices):
    return [self[i] for i in indices]

  def png(self, array):
    data = io.BytesIO()
    Image.fromarray(array.squeeze()).save(data, "png")
    return data.getvalue()


@pytest.mark.parametrize(("name", "classes", "shape"), [
    ("cifar10", 10, (32, 32)), ("oxford_iiit_pet", 37, None), ("imagenet2012", 1000, None),
    ("voc/2007", 0, None), ("stl10", 10, (96, 96))])
def test_stock_sets_give_the_same_records(name, classes, shape):
  with tfds.testing.mock_data(num_examples=4):
    builder = Encoded(tfds.builder(name))
    shelf = tfds_source.adapt(builder, f"tfds:{name}")
    assert len(shelf.class_names) == classes and shelf.image_shape == shape
    records = tfds_source.read_split(builder, "train", f"tfds:{name}")
    sizes = set()
    for record in [records[0], *records.__getitems__([1, 2, 3])]:
      pixels, size = data.to_canvas(record["image"], 24)
      assert pixels.shape == (24, 24, 3) and pixels.dtype == np.uint8
      assert 0 <= record["label"] < classes if classes else record["label"] == -1
      sizes.add(size)
    assert sizes == {shape} if shape else len(sizes) > 1


def test_a_set_without_images_is_refused():
  features = tfds.features.FeaturesDict({"text": tfds.features.Text(),
                                         "mask": tfds.features.LabeledImage(labels=3)})
  builder = types.SimpleNamespace(info=types.SimpleNamespace(features=features, splits=("train",)))
  with pytest.raises(UserError, match=r"tfds:imdb has no image among its features \(text, mask\)"):
    tfds_source.adapt(builder, "tfds:imdb")


def in_a_second(open_it, message):
  started = time.perf_counter()
  with pytest.raises(UserError, match=message) as error:
    open_it()
  assert time.perf_counter() - started < 2  # a second, on cores that others use as well
  assert "\n" not in str(error.value) and len(str(error.value)) < 700


def test_an_unknown_name_gets_the_nearest(tmp_path):
  in_a_second(lambda: data.open_source("tfds:cifar11", "train", data_dir=tmp_path),
              "TFDS has no set 'cifar11' .*did you mean 'cifar10")
  in_a_second(lambda: data.open_source("tfds:qqqqqqqqq", "train", data_dir=tmp_path),
              r"known: .*\.\.\.")


def test_an_unknown_config_gets_the_nearest(tmp_path):
  in_a_second(lambda: data.open_source("tfds:eurosat/rgbb", "train", data_dir=tmp_path),
              "eurosat has no config 'rgbb'; did you mean 'rgb'")


def test_a_missing_split_names_those_that_exist(data_dir):
  in_a_second(lambda: data.open_source("tfds:fashion_mnist", "val", data_dir=data_dir),
              "tfds:fashion_mnist has no split 'val'; it has train, test|test, train")


def test_an_unprepared_set_without_tensorflow_says_what_to_run(tmp_path, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  in_a_second(lambda: data.open_source("tfds:cifar10", "train", data_dir=tmp_path),
              r"cifar10 is not prepared under .* tfds build cifar10 --file_format=array_record "
              r".*bundled:fashion_mnist_mini")


def test_an_unprepared_set_without_a_network_fails_at_once(tmp_path, monkeypatch, no_network):
  from tensorflow_datasets.core.download import downloader
  retries = downloader.MAX_RETRIES
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
  in_a_second(lambda: data.open_source("tfds:cifar10", "train", data_dir=tmp_path),
              "cifar10 is not prepared under .* its host cannot be reached")
  assert retries == downloader.MAX_RETRIES


def test_fashion_mnist_without_files_and_network_names_the_package(
    tmp_path, monkeypatch, no_network):
  monkeypatch.setenv(fashion_mnist.ENVIRONMENT, str(tmp_path / "nowhere"))
  in_a_second(lambda: data.open_source("tfds:fashion_mnist", "train", data_dir=tmp_path),
              "apt-get install -y dataset-fashion-mnist")


def test_original_files_elsewhere_are_found_and_checked(tmp_path, monkeypatch):
  for name in fashion_mnist.DIGESTS:
    (tmp_path / f"{name}.gz").symlink_to(pathlib.Path(fashion_mnist.DEBIAN) / f"{name}.gz")
  monkeypatch.setattr(fashion_mnist, "DEBIAN", "/nowhere")
  assert READ("test", tmp_path)[0].shape == (10000, 28, 28)
  monkeypatch.setenv(fashion_mnist.ENVIRONMENT, str(tmp_path))
  assert READ("test")[1].shape == (10000,)
  wrong = tmp_path / "t10k-labels-idx1-ubyte.gz"
  whole = wrong.read_bytes()
  wrong.unlink()
  wrong.write_bytes(whole[:1000])
  with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\.gz is no whole gzip file"):
    READ("test")
  wrong.write_bytes((tmp_path / "train-labels-idx1-ubyte.gz").read_bytes())
  with pytest.raises(UserError, match="does not hold the original t10k-labels"):
    READ("test")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(fashion_mnist, "read", some)
  (tmp_path / "file").write_text("")
  in_a_second(lambda: data.open_source("tfds:fashion_mnist", "train", data_dir=tmp_path / "file"),
              r"cannot be prepared under .*TFDS_DATA_DIR")


def test_a_set_in_another_format_and_several_configs_are_named(tmp_path):
  def prepared(folder, shard):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "dataset_info.json").write_text("{}")
    (tmp_path / folder / shard).write_text("")

  prepared("cifar10/3.0.2", "cifar10-train.tfrecord-00000-of-00001")
  with pytest.raises(UserError, match=r"not in the ArrayRecord format.*tfds build cifar10"):
    tfds_source.find_prepared("cifar10", epath.Path(tmp_path))
  for config in ("rgb", "all"):
    prepared(f"eurosat/{config}/2.0.0", "eurosat-train.array_record-00000-of-00001")
  with pytest.raises(UserError, match="name one: tfds:eurosat/all, tfds:eurosat/rgb"):
    tfds_source.find_prepared("eurosat", epath.Path(tmp_path))
  prepared("eurosat/rgb/10.0.0", "eurosat-train.array_record-00000-of-00001")
  assert tfds_source.find_prepared("eurosat/rgb", epath.Path(tmp_path)).name == "10.0.0"
  with pytest.raises(UserError, match="is no whole TFDS folder"):
    data.open_source("tfds:eurosat/rgb", "train", data_dir=tmp_path)


def test_a_part_of_a_set_reads_many_records_at_once(data_dir):
  source = data.open_source("tfds:fashion_mnist", "train[100:]", data_dir=data_dir)
  assert isinstance(source.records, Chosen)
  assert source.records.__getitems__([0, 9]) == [source.records[0], source.records[9]]
