"""Files named by a list or a table."""

import numpy as np
import pytest
from PIL import Image

from ssl_jax import data
from ssl_jax.errors import UserError


@pytest.fixture
def files(tmp_path):
  for i in range(4):
    (tmp_path / "deep").mkdir(exist_ok=True)
    Image.fromarray(np.full((5, 7, 3), 40 * i, np.uint8)).save(tmp_path / "deep" / f"{i}.png")
  return tmp_path


def shade(source, index):
  return int(data.decode(source.records[index]["image"])[0, 0, 0])


def test_a_text_file_gives_its_images_in_its_order_and_no_labels(files):
  (files / "some.txt").write_text("deep/2.png\n\n  deep/0.png\n")
  source = data.open_source(f"list:{files}/some.txt", "train")
  assert [shade(source, i) for i in range(len(source))] == [80, 0]
  assert source.class_names == () and source.records[0]["label"] == -1


def test_a_table_gives_labels_and_splits_by_name_whatever_else_it_holds(files):
  (files / "some.csv").write_text(
      "id,File,Class,split\n9,deep/0.png,cat,train\n8,deep/1.png,ant,train\n"
      "7,deep/2.png,cat,test\n6,deep/3.png,,train\n")
  train, test = (data.open_source(f"list:{files}/some.csv", s) for s in ("train", "test"))
  assert train.class_names == ("ant", "cat") == test.class_names
  assert [train.records[i]["label"] for i in range(3)] == [1, 0, -1]
  assert [shade(test, 0), test.records[0]["label"]] == [80, 1]


def test_classes_that_are_numbers_keep_the_order_of_the_numbers(files):
  (files / "some.tsv").write_text("path\tlabel\ndeep/0.png\t10\ndeep/1.png\t9\n")
  assert data.open_source(f"list:{files}/some.tsv", "train").class_names == ("9", "10")


@pytest.mark.parametrize(("name", "text", "words"), [
    ("missing.txt", None, "there is no such file"),
    ("empty.txt", "\n\n", "names no image"),
    ("wrong.csv", "a,b\n1,2\n", "has the columns a, b; name the one with the files 'path'"),
    ("binary.csv", b"\xff\xfe\x00\x81", "cannot be read")])
def test_a_list_that_is_wrong_is_told_in_one_line(files, name, text, words):
  if text is not None:
    (files / name).write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(UserError, match=words) as error:
    data.open_source(f"list:{files}/{name}", "train")
  assert "\n" not in str(error.value)


def test_a_file_that_is_listed_but_not_there_is_named_when_it_is_read(files):
  (files / "some.txt").write_text("deep/0.png\ndeep/9.png\n")
  source = data.open_source(f"list:{files}/some.txt", "train")
  data.load_all(source, 8)
  assert list(source.skipped.reasons) == [str(files / "deep" / "9.png")]
