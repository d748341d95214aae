"""Split strings mean what TFDS means by them."""

from typing import NamedTuple

import pytest
import tensorflow_datasets as tfds

from ssl_jax.data import splits
from ssl_jax.errors import UserError


@pytest.mark.parametrize(("text", "bounds"), [
    ("train", (0, 1000)), ("train[:]", (0, 1000)), ("train[100:]", (100, 1000)),
    ("train[:50%]", (0, 500)), ("train[50%:]", (500, 1000)), ("train[25%:75%]", (250, 750)),
    ("train[-10%:]", (900, 1000)), ("train[-7:-2]", (993, 998)), ("train[:1000]", (0, 1000)),
    ("train[900:100]", (900, 900)),
])
def test_a_part_is_the_range_that_python_would_slice(text, bounds):
  (part,) = splits.parse(text)
  assert (part.name, part.bounds(1000)) == ("train", bounds)


@pytest.mark.parametrize("count", [1, 7, 99, 1001])
def test_percentages_split_without_gap_or_overlap(count):
  for percent in range(0, 101, 7):
    (head,), (tail,) = splits.parse(f"a[:{percent}%]"), splits.parse(f"a[{percent}%:]")
    assert head.bounds(count)[1] == tail.bounds(count)[0]
    assert abs(head.bounds(count)[1] - count * percent / 100) <= 0.5


@pytest.mark.parametrize("count", [3, 777, 1000])
@pytest.mark.parametrize("text", [
    "train[:33%]", "train[12%:57%]", "train[-20%:]", "train[1:-1]", "train[:1%]", "train[-3:]"])
def test_tfds_computes_the_same_range(text, count):
  class Info(NamedTuple):
    num_examples: int

  (theirs,) = tfds.core.ReadInstruction.from_spec(text).to_absolute({"train": Info(count)})
  (part,) = splits.parse(text)
  assert part.bounds(count) == (theirs.from_ or 0, count if theirs.to is None else theirs.to)


def test_a_sum_has_a_part_for_each_term():
  assert [p.name for p in splits.parse("train + validation[:10]")] == ["train", "validation"]


@pytest.mark.parametrize("text", [
    "", "train[", "train[1:2:3]", "train[5]", "train+", "train[:50.5%]"])
def test_what_is_no_split_is_refused_in_one_line(text):
  with pytest.raises(UserError, match=r"^split .*train\[:50%\]") as error:
    splits.parse(text)
  assert "\n" not in str(error.value)


def test_a_bound_beyond_the_split_is_refused():
  with pytest.raises(UserError, match="5000 lies outside the 1000 images of train"):
    splits.parse("train[:5000]")[0].bounds(1000)
  with pytest.raises(UserError, match="150% lies outside the 10 images of train"):
    splits.parse("train[:150%]")[0].bounds(10)


def test_a_missing_split_names_those_that_exist():
  with pytest.raises(UserError, match="has no split 'tset'; it has train, test"):
    splits.check_exists("tset", ["train", "test"], "npz:x")
  with pytest.raises(UserError, match=r"train\[90%:\]"):
    splits.check_exists("test", ["train"], "folder:x")
