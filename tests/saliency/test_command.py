"""`python -m ssl_jax.saliency` from end to end: made, killed, gone on with, refused."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data import masks, open_source
from ssl_jax.errors import UserError
from ssl_jax.models.saliency_net import SaliencyNet
from ssl_jax.saliency import __main__ as command
from ssl_jax.saliency import learned, making, teach

ROOT = pathlib.Path(__file__).parent.parent.parent
COUNT = 130  # three parts of masks


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
  """Discs on plain ground, among them a file that is no image."""
  folder = tmp_path_factory.mktemp("images")
  rows, columns = np.mgrid[:24, :32]
  for i in range(COUNT - 1):
    disc = np.hypot(rows - 12, columns - 9 - i % 14) < 6
    image = np.where(disc[..., None], (220, 190, 60), (40, 70, 120)) + i % 7
    Image.fromarray(image.astype(np.uint8)).save(folder / f"{i}.png")
  (folder / "broken.png").write_text("no")
  return f"folder:{folder}"


def test_every_image_has_its_mask(spec, tmp_path, capsys):
  out, sheet = tmp_path / "masks", tmp_path / "sheet.png"
  command.run(["--data", spec, "--method", "mbd", "--out", str(out), "--workers", "0",
               "--preview", str(sheet)])
  said = capsys.readouterr().out
  assert f"{COUNT}/{COUNT}" in said and "broken.png: no image format" in said
  assert f"{COUNT} masks in {out}" in said
  source = open_source(spec, "train")
  opened = masks.open_masks(out, source)
  for i in range(0, COUNT, 9):
    if source.records.name(i).endswith("broken.png"):
      assert opened[i].tolist() == [[0]]
      continue
    disc = np.asarray(Image.open(source.records.name(i)))[..., 0] > 150
    assert opened[i].shape == disc.shape and opened[i].dtype == np.uint8
    assert opened[i][disc].mean() > 220 and opened[i][~disc].mean() < 30
  assert Image.open(sheet).size == (8 * 160, 3 * 160)
  meta = masks.read_meta(out)
  assert meta["made"] == {"method": "mbd", "size": None, "weights": None}
  assert meta["spec"] == spec and "scikit-image" in meta["versions"]


def test_a_killed_run_is_gone_on_with_and_its_workers_end(spec, tmp_path):
  out = tmp_path / "masks"
  line = [sys.executable, "-m", "ssl_jax.saliency", "--data", spec, "--method", "mbd",
          "--out", str(out), "--workers", "1"]
  environment = os.environ | {"PYTHONPATH": str(ROOT)}
  process = subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
                             start_new_session=True)
  deadline = time.monotonic() + 120
  while not list(out.glob("masks-*")) and time.monotonic() < deadline:
    time.sleep(0.02)
  os.kill(process.pid, signal.SIGKILL)
  process.communicate()  # returns when the workers, which hold the pipe too, have ended
  first = {file.name: file.stat().st_mtime_ns for file in out.glob("masks-*")}
  assert 1 <= len(first) < 3
  source = open_source(spec, "train")
  with pytest.raises(UserError, match="of 3 parts are missing"):
    masks.open_masks(out, source)
  counts = []
  making.make(source, out, making.Recipe("mbd"), 0, counts.append)
  assert counts[0] == 64 * len(first) and sum(counts) == COUNT
  assert all((out / name).stat().st_mtime_ns == then for name, then in first.items())
  assert len(list(out.iterdir())) == 4  # what the kill left is gone
  assert masks.open_masks(out, source)[COUNT - 1].max() > 200


def test_a_network_is_taught_and_makes_masks(spec, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(learned, "SaliencyNet", lambda widths=(8, 16): SaliencyNet(widths))
  out, net = tmp_path / "gs", tmp_path / "net.npz"
  few = ["--data", spec, "--split", "train[:16]"]
  command.run([*few, "--method", "gs", "--out", str(out), "--workers", "0"])
  teach.run([*few, "--masks", str(out), str(out), "--weights", str(net), "--size", "32",
             "--epochs", "1", "--rounds", "0"])
  assert "round 1/1  epoch 1/1  loss " in capsys.readouterr().out
  command.run([*few, "--method", "learned", "--weights", str(net), "--out", str(tmp_path / "own"),
               "--workers", "0"])
  own = masks.open_masks(tmp_path / "own", open_source(spec, "train[:16]"))
  assert {own[i].shape for i in range(16)} <= {(24, 32), (1, 1)} and own[3].shape == (24, 32)
  digest = masks.read_meta(tmp_path / "own")["made"]["weights"]
  assert digest and digest not in str(net)


def test_labels_are_the_mean_of_the_folders(spec, tmp_path):
  source = open_source(spec, "train[:8]")
  folders = []
  for value in (0, 100, 200):
    parts = masks.begin(tmp_path / str(value), source, {"value": value}, {})
    parts.write(0, [np.full((24, 32), value, np.uint8)] * 8)
    folders.append(masks.open_masks(tmp_path / str(value), source))
  np.testing.assert_allclose(teach.mean_labels(source, folders, 32), 100 / 255, rtol=1e-6)


@pytest.mark.parametrize("flags, says", [
    (["--method", "rbd"], "--out and --preview are missing"),
    (["--out", "x", "--size", "3"], "--size=3 must be at least 16"),
    (["--out", "x", "--method", "rdb"], "'rdb' does not exist; did you mean 'rbd'"),
    (["--out", "x", "--method", "learned"], "--weights=None: weights are what"),
    (["--out", "x", "--method", "learned", "--weights", "n.npz"], "n.npz: no such file"),
    (["--out", "x", "--weights", "n.npz"], "--method=rbd --weights=n.npz"),
    (["--out", __file__], "cannot be written"),
    (["--out", str(ROOT / "docs")], "and no masks; name a new folder"),
    (["--preview", "/nowhere/at/all.png", "--split", "train[:2]"], "cannot be written"),
])
def test_a_mistake_is_one_line(flags, says, spec, capsys, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["saliency", "--data", spec, "--workers", "0", *flags])
  with pytest.raises(SystemExit) as ending:
    command.main()
  error = capsys.readouterr().err
  assert ending.value.code == 2 and error.startswith("error: ") and says in error
  assert error.count("\n") == 1


@pytest.mark.parametrize("flags, says", [
    (["--size", "33"], "--size=33 must be a multiple of 16"),
    (["--epochs", "0"], "--epochs=0 must be at least 1"),
    (["--weights", "net.pt"], "net.pt must be a .npz file"),
    (["--split", "train[:3]"], "has 3 images; give 8 or more"),
    ([], "meta.json is missing or broken"),
])
def test_a_mistake_in_teaching_is_one_line(flags, says, spec, tmp_path):
  with pytest.raises(UserError, match=says.replace("[", r"\[")) as error:
    teach.run(["--data", spec, "--masks", str(tmp_path), "--weights", str(tmp_path / "n.npz"),
               *flags])
  assert "\n" not in str(error.value)


def test_a_worker_that_dies_is_told(spec, tmp_path, monkeypatch):
  monkeypatch.setattr(making, "_start_worker", os.abort)
  monkeypatch.setattr(making.ProcessPoolExecutor, "__init__", lambda *a, **k: None, raising=True)

  def broken(self, *arguments):
    raise making.BrokenProcessPool("gone")
  monkeypatch.setattr(making.ProcessPoolExecutor, "submit", broken)
  monkeypatch.setattr(making.ProcessPoolExecutor, "shutdown", lambda *a, **k: None)
  with pytest.raises(UserError, match=r"a process died.*fewer than --workers=2"):
    making.make(open_source(spec, "train"), tmp_path / "m", making.Recipe("mbd"), 2, lambda n: None)
