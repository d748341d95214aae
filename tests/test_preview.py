"""`--preview`: a figure of what a method is shown, and nothing else."""

import re
import sys

import numpy as np
import pytest
import tiny
from PIL import Image

from ssl_jax import preview


def flags(tmp_path, *more):
  return (*tiny.flags(tmp_path / "run", "supervised"), *more)


def test_the_command_draws_and_trains_nothing(command, tmp_path, monkeypatch):
  drawn = []
  original = preview._figure
  monkeypatch.setattr(preview, "_figure", lambda *a: drawn.append(a) or original(*a))
  target = tmp_path / "views.png"
  target.write_text("an older figure")
  status, out, errors = command(*flags(tmp_path, f"--preview={target}"))
  assert (status, errors) == (0, "") and f"preview: {target}" in out
  assert [p.name for p in tmp_path.iterdir()] == ["views.png"]  # no workdir, no part of a file
  picture = np.asarray(Image.open(target).convert("RGB"))
  assert min(picture.shape[:2]) > 500 and len(np.unique(picture)) > 50

  (title, images, sizes, views), = drawn
  assert title == "supervised, views crop_flip, of bundled:fashion_mnist_mini train[:200]"
  assert images.shape == (24, 28, 28, 3) and sizes.tolist() == [[28, 28]] * 24
  (shown,) = views.values()
  assert shown.shape == (24, 16, 16, 3)


@pytest.mark.parametrize(("target", "words"), [
    ("views.jpg", r"--preview=\S*views.jpg does not end in .png"),
    ("none/views.png", r"--preview=\S*views.png: there is no folder \S*none; make it first")])
def test_a_target_that_cannot_be_is_refused_in_one_line(command, tmp_path, target, words):
  status, out, errors = command(*flags(tmp_path, f"--preview={tmp_path / target}"))
  assert status == 2 and out == "" and not list(tmp_path.iterdir())
  assert re.match(f"error: {words}", errors) and errors.count("\n") == 1


def test_a_missing_matplotlib_is_named_with_the_way_out(command, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  status, _, errors = command(*flags(tmp_path, f"--preview={tmp_path / 'views.png'}"))
  assert status == 2 and "pip install 'ssl_jax[viz]'" in errors and errors.count("\n") == 1


def test_only_pretraining_has_views_to_draw(command, tmp_path):
  status, _, errors = command("--config=configs/eval/knn.py", f"--config.init={tmp_path}",
                              f"--preview={tmp_path / 'views.png'}")
  assert status == 2 and "not for task 'knn'" in errors and errors.count("\n") == 1


@pytest.mark.parametrize(("names", "images", "grid"), [
    (("a", "b"), 18, (6, 3)), (("a", "b"), 4, (4, 1)), (("key", *"cdefghijkl"), 3, (3, 1)),
    (("a",), 7, (4, 2))])
def test_each_image_is_followed_by_its_views_in_order(names, images, grid):
  draw = np.random.default_rng(0)
  pictures = draw.integers(0, 256, (images, 8, 8, 3)).astype(np.uint8)
  sizes = np.array([[30, 60]] * images)
  views = {name: draw.random((images, 4 + i, 4 + i, 3)) for i, name in enumerate(names)}
  figure = preview._figure("a title", pictures, sizes, views)
  rows, blocks = grid
  axes = np.array(figure.axes).reshape(rows, -1)
  block = 2 + len(names)  # the image, its views and a gap
  assert axes.shape[1] == blocks * block and figure.get_suptitle() == "a title"
  for i in range(images):
    cells = axes[i // blocks, i % blocks * block:]
    np.testing.assert_array_equal(cells[0].images[0].get_array(), pictures[i])
    assert cells[0].get_aspect() == 0.5  # as wide as the image was
    for cell, (name, view) in zip(cells[1:], views.items(), strict=False):
      np.testing.assert_array_equal(cell.images[0].get_array(), view[i])
      if i < blocks:
        assert cell.get_title() == f"{name}\n{view.shape[1]} px"


def test_views_stand_beside_their_image_in_its_colours(tmp_path, monkeypatch):
  """MoCo hands views to the network normalised, and its keys in another order."""
  drawn = []
  monkeypatch.setattr(preview, "_figure", lambda *a: drawn.append(a))
  monkeypatch.setattr(preview, "_write", lambda *a: None)
  bare = {"preset": "moco_v2", "size": 16, "min_area": 0.9, "strength": 0.0, "blur": 0.0}
  preview.run(tiny.settings("moco_v2", views=bare, train_split="train[:200]"),
              str(tmp_path / "views.png"))
  (_, images, _, views), = drawn
  assert list(views) == ["a", "b"]
  light = images.mean((1, 2, 3)) / 255
  assert light.std() > 0.1
  for shown in views.values():
    assert shown.min() >= 0 and shown.max() <= 1
    assert np.abs(shown.mean((1, 2, 3)) - light).max() < 0.06  # a crop of nearly all of it
