"""What `inspect` counts, against images whose figures are known."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from ssl_jax import data
from ssl_jax.data.survey import survey


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
  """Two classes: crops of a photograph, one twice, one rescaled; one grey; one broken."""
  root = tmp_path_factory.mktemp("photographs")
  flower = load_sample_image("flower.jpg")
  (root / "a").mkdir()
  (root / "b").mkdir()
  for i in range(3):
    Image.fromarray(flower[40 * i:40 * i + 60, :90]).save(root / "a" / f"{i}.png")
  Image.fromarray(flower[:60, :90]).save(root / "b" / "again.bmp")
  Image.fromarray(flower[40:100, :90]).resize((180, 120)).save(
      root / "b" / "larger.jpg", quality=95)
  Image.fromarray(flower[:50, :40]).convert("L").save(root / "b" / "grey.png")
  (root / "b" / "broken.png").write_bytes(b"no image")
  return root


def test_sizes_classes_colours_duplicates_and_broken_files_are_counted(photographs):
  source = data.open_source(f"folder:{photographs}", "train")
  seen = survey(source)

  def names(groups):
    return [sorted(source.records.name(i).rsplit("/", 1)[1] for i in group) for group in groups]

  assert len(seen.looked) == 6 and len(source) == 7
  assert names(seen.duplicates) == [["0.png", "again.bmp"]]
  assert names(seen.similar) == [["1.png", "larger.jpg"]]
  assert [name.rsplit("/", 1)[1] for name in seen.unreadable] == ["broken.png"]
  assert seen.grey.sum() == 1
  assert sorted(map(tuple, seen.size)) == [(50, 40)] + [(60, 90)] * 4 + [(120, 180)]
  assert np.bincount(seen.label).tolist() == [3, 3]


def test_mean_and_deviation_are_those_of_the_pixels(photographs):
  source = data.open_source(f"folder:{photographs}/a", "train")
  images = np.stack([data.decode(source.records[i]["image"]) for i in range(3)]) / 255
  seen = survey(source)
  np.testing.assert_allclose(seen.mean, images.mean((0, 1, 2)), atol=1e-9)
  np.testing.assert_allclose(seen.std, images.std((0, 1, 2)), atol=1e-9)


def test_a_limit_looks_at_images_all_over_the_set():
  source = data.open_source("bundled:fashion_mnist_mini", "test")
  seen = survey(source, limit=5)
  assert seen.looked.tolist() == [0, 499, 999, 1499, 1999]


def test_the_command_prints_and_writes_them(photographs, tmp_path):
  def inspect(*arguments):
    return subprocess.run([sys.executable, "-m", "ssl_jax.data", "inspect", *arguments],
                          capture_output=True, text=True, check=False)
  done = inspect(f"folder:{photographs}", f"--json={tmp_path}/told.json")
  assert done.returncode == 0, done.stderr
  assert "7 images, 7 of them looked at" in done.stdout
  assert "shorter side 40 to 120 pixels, median 60" in done.stdout
  told = json.loads((tmp_path / "told.json").read_text())
  assert told["classes"] == {"a": 3, "b": 3} and len(told["unreadable"]) == 1
  wrong = inspect("folder:/nowhere")
  assert wrong.returncode == 2 and wrong.stderr.startswith("error: ")
  assert wrong.stderr.count("\n") == 1
