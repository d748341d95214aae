"""The table of transfer sets: split rules, sizes, and what is told where data differs."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ssl_jax.data import transfer_sets
from ssl_jax.data.make_digits import PATH, arrays
from ssl_jax.data.transfer_sets import SETS, held_out_fifth, labels_of, open_parts, seven_tenths
from ssl_jax.errors import UserError

# The first rows that the released code draws, for each size.
ANCHORS = {
    50000: ((11841, 19602, 45519, 25747, 42642), (20330, 17532, 45819, 34807, 31888)),
    8144: ((5863, 6459, 1817, 6716, 39), None), 3680: ((482, 3599, 2198, 3251, 796), None),
    75750: ((56751, 28998, 59534, 55337, 28043), None),
    19850: ((5416, 13506, 8368, 11759, 2839), None), 3060: ((465, 1646, 1504, 1014, 1371), None),
    2416: ((966, 557, 148, 1917, 1585), None)}


@pytest.mark.parametrize("count", ANCHORS)
def test_the_held_out_fifth_is_the_released_codes(count):
  train, validation = held_out_fifth(count)
  assert tuple(validation[:5]) == ANCHORS[count][0]
  assert len(validation) == int(0.2 * count)
  assert len(np.union1d(train, validation)) == count
  if ANCHORS[count][1]:
    assert tuple(train[:5]) == ANCHORS[count][1]


def test_seven_tenths_are_taken_of_each_class_by_one_generator():
  labels = np.array([2] * 11 + [0] * 7 + [1] * 3 + [-1, 2])
  generator = np.random.RandomState(0)
  want = []
  for label in (2, 0, 1):  # the order in which they first occur
    rows = [i for i, value in enumerate(labels) if value == label]
    generator.shuffle(rows)
    want += rows[:int(0.7 * len(rows))]
  train, test = seven_tenths(labels)
  assert list(train) == want
  assert sorted([*train, *test]) == [i for i, value in enumerate(labels) if value >= 0]


def test_both_papers_sets_are_there_and_every_row_makes_sense():
  of = lambda paper: {name for name, s in SETS.items() if paper in s.papers}
  assert len(of("ericsson")) == 11 and len(of("ericsson few-shot")) == 4 and len(of("islam")) == 12
  assert {s.metric for s in SETS.values()} == {"top1", "mean_per_class", "map11"}
  assert {n for n, s in SETS.items() if s.metric == "mean_per_class"} == {
      "aircraft", "caltech101", "flowers", "pets"}
  for name, entry in SETS.items():
    assert set(entry.sizes) <= set(entry.splits), name
    parts = set(entry.splits)
    made = {transfer_sets.FIFTH: {"train", "test"}, transfer_sets.SEVEN_TENTHS: {"train"},
            transfer_sets.OFFICIAL: {"train", "validation", "test"},
            transfer_sets.SHIFTED: {"test"}}[entry.rule]
    assert parts == made and (entry.of in SETS) == (entry.rule == transfer_sets.SHIFTED), name


def test_the_bundled_sets_open_as_the_table_says():
  digits = open_parts("digits")
  assert not digits.warnings
  assert {part: len(s) for part, s in digits.sources.items()} == {
      "train": 1002, "validation": 250, "test": 545}
  taken = np.concatenate([digits.rows[part] for part in ("train", "validation", "test")])
  assert len(np.unique(taken)) == 1797
  row = digits.rows["test"][7]
  assert digits.sources["test"].records[7]["label"] == load_digits().target[row]
  fashion = open_parts("fashion_mnist_mini")
  assert [len(fashion.sources[part]) for part in ("train", "validation", "test")] == [
      8000, 2000, 2000]
  assert not fashion.warnings
  assert len(np.unique(labels_of(fashion.sources["test"].records))) == 10


def test_the_bundled_digits_are_scikit_learns():
  with np.load(PATH) as stored:
    for name, array in arrays().items():
      np.testing.assert_array_equal(stored[name], array)
  np.testing.assert_allclose(arrays()["images"] / 255 * 16, load_digits().images, atol=0.04)


def test_what_differs_from_the_table_and_what_is_missing_is_told(tmp_path, monkeypatch):
  monkeypatch.setitem(SETS, "digits", SETS["digits"]._replace(
      sizes={"train": 1800}, classes=12, note="it has a note"))
  assert open_parts("digits").warnings == [
      "train has 1797 images, 1800 are published", "it has 10 classes, 12 are published",
      "it has a note"]
  with pytest.raises(UserError, match=r"archive:aircraft is not at .*; get fgvc-aircraft"):
    open_parts("aircraft", tmp_path)
  with pytest.raises(UserError, match="'digit' is not known; did you mean 'digits'"):
    open_parts("digit")
