"""The bundled file is what its script makes of the original files."""

import numpy as np
import pytest

from ssl_jax.data import fashion_mnist
from ssl_jax.data import make_fashion_mnist_mini as script
from ssl_jax.errors import UserError


@pytest.fixture(scope="module")
def made():
  try:
    return script.arrays()
  except UserError as error:  # without the original files nothing is proved, so this is no skip
    pytest.fail(str(error))


def test_the_script_makes_every_member_of_the_file_bit_for_bit(made):
  # Members and not the file: how tightly DEFLATE packs them depends on the version of zlib.
  with np.load(script.PATH) as bundled:
    assert set(bundled.files) == set(made)
    for name, array in made.items():
      assert bundled[name].dtype == array.dtype
      assert bundled[name].tobytes() == array.tobytes(), name


def test_every_bundled_image_stands_where_the_file_says_in_the_original(made):
  for split in ("train", "test"):
    images, labels = fashion_mnist.read(split)
    index = made[f"{split}_index"]
    assert np.all(np.diff(index) > 0)
    np.testing.assert_array_equal(images[index], made[f"{split}_images"])
    np.testing.assert_array_equal(labels[index], made[f"{split}_labels"])


def test_packing_twice_gives_the_same_bytes():
  members = {"a": np.arange(12, dtype=np.int32), "b": np.array(["x", "yz"])}
  assert script.pack(members) == script.pack(members)


def test_the_first_of_each_class_are_taken_in_order():
  labels = np.array([1, 0, 1, 1, 0, 0, 2, 2])
  assert script.first_of_each_class(labels, 2).tolist() == [0, 1, 2, 4, 6, 7]


def test_the_file_is_small_and_its_licence_lies_beside_it():
  assert script.PATH.stat().st_size < 6_000_000
  licence = script.PATH.with_name("fashion_mnist_mini.LICENSE.txt").read_text()
  assert "MIT License" in licence and "Zalando SE" in licence
