"""The composed set: deterministic, split by object and by background, honest in its annotations."""

import dataclasses
import io
import json
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tiny
from PIL import Image, ImageDraw
from skimage.color import rgb2lab
from sklearn.datasets import load_sample_images

from ssl_jax import data
from ssl_jax.data.composed import __main__ as command
from ssl_jax.data.composed import builder, parts, plans, scenes
from ssl_jax.data.composed.builder import Settings
from ssl_jax.errors import UserError

SMALL = Settings(size=32, train=40, validation=8, test=12, bias=60, objects=3, seed=1)
SHAPES = {"disc": ImageDraw.ImageDraw.ellipse, "square": ImageDraw.ImageDraw.rectangle,
          "wedge": ImageDraw.ImageDraw.pieslice}
WORDS = ("ash", "birch", "cedar", "elm", "fir")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
  """Cut-outs of three shapes in five colours each, and 24 pieces of real photographs."""
  root = tmp_path_factory.mktemp("pictures")
  for row, (shape, draw) in enumerate(SHAPES.items()):
    (root / "objects" / shape).mkdir(parents=True)
    for column, word in enumerate(WORDS):
      image = Image.new("RGBA", (50, 44))
      angles = (20, 300) if shape == "wedge" else ()
      draw(ImageDraw.Draw(image), (6, 4, 44, 38), *angles,
           fill=(40 * column + 60, 80 * row + 40, 220 - 40 * column, 255))
      image.save(root / "objects" / shape / f"{word}_1.png")
      if column == 1:
        image.save(root / "objects" / shape / f"{word}_2.png")
  (root / "backgrounds").mkdir()
  for i, photograph in enumerate(load_sample_images().images):
    for j in range(12):
      y, x = 106 * (j // 3), 200 * (j % 3)
      Image.fromarray(photograph[y:y + 106, x:x + 200]).save(root / "backgrounds" / f"{i}_{j}.jpg")
  return str(root / "objects"), str(root / "backgrounds")


@pytest.fixture(scope="session")
def read(folders):
  """The classes, and the parts of every split."""
  return parts.read_parts(SMALL.size, *folders)


@pytest.fixture(scope="session")
def built(folders, tmp_path_factory):
  """The folder of TFDS sets that holds the small set."""
  out = tmp_path_factory.mktemp("tfds")
  builder.build(out, SMALL, *folders)
  return out


@pytest.fixture(scope="session")
def examples(built):
  """Every example of every split, decoded."""
  folder = built / "composed" / f"own_{SMALL.name}" / builder.VERSION
  made = tfds.builder_from_directory(str(folder))
  return {split: list(made.as_data_source(split=split)) for split in made.info.splits}


def test_the_set_is_read_as_any_other_with_its_masks(built, examples):
  source = data.open_source("tfds:composed", "train", data_dir=built)  # the only config there
  assert source.class_names == tuple(SHAPES)
  assert (len(source), source.image_shape) == (40, (32, 32))
  stored = data.load_all(data.with_masks(source), 32)
  assert stored["label"].tolist() == [i % 3 for i in range(40)]
  for i, example in enumerate(examples["train"]):
    np.testing.assert_array_equal(stored["mask"][i], example["mask"][..., 0])
    assert np.abs(stored["image"][i].astype(int) - example["image"]).max() <= 3  # two JPEG decoders
  assert "mask" not in data.load_all(source, 32)
  assert "tensorflow" not in sys.modules


def test_a_record_is_a_function_of_settings_split_and_index(read, examples):
  for split, index in (("train", 0), ("train", 39), ("validation", 5), ("test", 11)):
    longer = dataclasses.replace(SMALL, train=10**6)
    plan, label = builder.compose(longer, read[1][split], split, builder.ORIGINAL, index)
    scene = scenes.render(plan, read[1][split], 32)
    example = examples[split][index]
    assert example["label"] == label
    np.testing.assert_array_equal(example["mask"][..., 0], scene.mask)
    np.testing.assert_array_equal(example["instances"][..., 0], scene.instances)
    assert np.abs(example["image"].astype(float) - scene.image).mean() < 3  # JPEG
    assert example["background"].decode() == plans.background_of(plan.backdrop, read[1][split])
  first, again, other = (builder.compose(settings, read[1]["test"], "test", "mixed_rand", 3)[0]
                         for settings in (SMALL, SMALL, dataclasses.replace(SMALL, seed=2)))
  assert first == again != other


def test_splits_share_neither_object_nor_background(examples):
  seen = {"objects": {}, "backgrounds": {}}
  for split, all_of_it in examples.items():
    home = split.partition("_")[0]
    for example in all_of_it:
      names = [name.decode().split("/")[1].split("_")[0] for name in example["objects"]["object"]]
      for label, word in zip(example["objects"]["label"], names):
        assert seen["objects"].setdefault((label, word), home) == home
      if background := example["background"]:
        assert seen["backgrounds"].setdefault(background, home) == home
  for split in parts.SPLITS:
    assert all(split in homes.values() for homes in seen.values())


def test_the_label_is_that_of_the_first_object_and_boxes_hold_what_shows(examples):
  counts = set()
  for example in examples["train"]:
    instances, objects = example["instances"][..., 0], example["objects"]
    counts.add(len(objects["label"]))
    assert objects["label"][0] == example["label"]
    assert set(np.unique(instances)) == set(range(len(objects["label"]) + 1))
    for k, box in enumerate(objects["bbox"], 1):
      inside = [(y, x) for y in range(32) for x in range(32) if instances[y, x] == k]
      top, left = np.min(inside, 0)
      bottom, right = np.max(inside, 0) + 1
      np.testing.assert_allclose(box, np.array([top, left, bottom, right]) / 32, atol=1e-6)
    assert (example["mask"][..., 0][instances > 0] >= 127).all()
  assert counts == {1, 2, 3}


def test_variants_are_the_test_images_with_other_backgrounds(examples, read):
  count = SMALL.test
  for i in range(count):
    original, same, rand, front, back = (examples[f"test{v}"][i] for v in (
        "", "_mixed_same", "_mixed_rand", "_only_fg", "_only_bg"))
    own = plans.own_environment(original["label"])
    assert same["environment"] == own != rand["environment"] and front["environment"] == -1
    assert len({e["background"] for e in (original, same, rand)}) == 3
    assert {e["label"] for e in (same, rand, front, back)} == {original["label"]}
    for example in (same, rand, front):
      np.testing.assert_array_equal(example["mask"], original["mask"])
    assert back["mask"].max() == 0 and len(back["objects"]["label"]) == 0
  test = read[1]["test"]
  for i in range(9):
    plan = dataclasses.replace(
        builder.compose(SMALL, test, "test", builder.ORIGINAL, i)[0], blur=0.0)
    shown, front, back = (scenes.render(p, test, 32) for p in (
        plan, dataclasses.replace(plan, backdrop=None), dataclasses.replace(plan, objects=())))
    alpha = shown.mask[..., None] / 255.0
    np.testing.assert_array_equal(shown.image[shown.mask == 0], back.image[shown.mask == 0])
    np.testing.assert_allclose(shown.image, front.image + (1 - alpha) * back.image, atol=2)


@pytest.mark.parametrize(("bias", "own"), [(0.0, 0.25), (0.6, 0.7), (1.0, 1.0)])
def test_bias_is_how_often_a_class_has_its_own_environment(read, bias, own):
  drawn = [plans.draw(np.random.default_rng(i), read[1]["train"], i % 3, bias=bias, most_objects=1)
           for i in range(1500)]
  shares = np.mean([plan.backdrop.patch.environment == plans.own_environment(i % 3)
                    for i, plan in enumerate(drawn)])
  assert abs(shares - own) < 0.05
  assert {len(plan.objects) for plan in drawn} == {1}


def test_further_objects_leave_each_other_room(read):
  for i in range(60):
    plan = plans.draw(np.random.default_rng(i), read[1]["train"], 0, bias=0, most_objects=6)
    boxes = [o.box for o in plan.objects]
    for a in range(len(boxes)):
      assert all(boxes[a][k] >= 0 and boxes[a][k] + boxes[a][k + 2] <= 1 + 1e-9 for k in (0, 1))
      for b in range(a):
        covered = np.zeros((200, 200), int)
        for top, left, height, width in (boxes[a], boxes[b]):
          covered[round(200 * top):round(200 * (top + height)),
                  round(200 * left):round(200 * (left + width))] += 1
        smaller = min(box[2] * box[3] for box in (boxes[a], boxes[b])) * 200**2
        assert (covered == 2).sum() <= (plans.OVERLAP + 0.05) * smaller


def test_an_object_of_the_backgrounds_colour_leaves_no_trace():
  """No dark or bright fringe, though a cut-out has no colour beyond its edge."""
  cutout = np.zeros((40, 60, 4), np.uint8)
  cutout[8:32, 10:50] = 200, 120, 40, 255
  plain = np.full((64, 64, 3), (200, 120, 40), np.uint8)
  pictures = parts.Parts(((parts.Picture("a/b", cutout),),),
                          ((parts.Picture("plain", plain),),) * parts.ENVIRONMENTS)
  for i in range(6):
    plan = plans.draw(np.random.default_rng(i), pictures, 0, bias=0, most_objects=1)
    plan = dataclasses.replace(plan, objects=(dataclasses.replace(plan.objects[0], gain=1.0),))
    scene = scenes.render(plan, pictures, 96)
    assert np.abs(scene.image.astype(int) - plain[0, 0]).max() <= 2
    assert scene.mask.max() == 255 and ((scene.mask > 30) & (scene.mask < 225)).any()


def test_a_plan_is_one_picture_at_every_size(read):
  for i in range(5):
    plan = plans.draw(np.random.default_rng(i), read[1]["train"], i % 3, bias=0, most_objects=2)
    small, large = (scenes.render(plan, read[1]["train"], size) for size in (32, 96))
    shrunk = np.asarray(Image.fromarray(large.image).resize((32, 32), Image.Resampling.BOX))
    assert np.abs(shrunk.astype(float) - small.image).mean() < 6
    np.testing.assert_allclose(small.boxes, large.boxes, atol=2.5 / 32)


def test_environments_are_alike_in_colour(read):
  means = [[rgb2lab(p.pixels).mean((0, 1)) for split in parts.SPLITS for p in
            read[1][split].backgrounds[e]] for e in range(parts.ENVIRONMENTS)]
  assert [len(m) for m in means] == [6] * parts.ENVIRONMENTS
  within = np.mean([np.var(m, 0)[1:].sum() for m in means])
  assert within < 0.5 * np.var(np.concatenate(means), 0)[1:].sum()


@pytest.mark.parametrize("settings", [
    Settings(), Settings(size=48, bias=0, objects=3), SMALL, Settings(seed=7, test=5)])
def test_a_configs_name_says_what_is_not_default(settings):
  assert Settings.of_name(settings.name) == settings


def test_names_of_configs():
  assert Settings().name == "96px"
  assert Settings(size=48, bias=0, objects=3).name == "48px_bias0_objects3"
  for wrong in ("96", "px96", "96px_bias70", "96px_speed3", "96px_bias", "own_96px"):
    with pytest.raises(UserError, match=r"has no config .* write one like 96px or 48px_bias0"):
      Settings.of_name(wrong)
  with pytest.raises(UserError, match="composed: bias is 101, must be from 0 to 100"):
    Settings(bias=101).check()


def test_missing_packages_are_named_with_the_line_that_gets_them(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(parts, "STAMPS", str(tmp_path / "none"))
  monkeypatch.setattr(parts, "BACKGROUNDS", {"some-photographs": (str(tmp_path), ("a.jpg",))})
  line = "apt-get install -y --no-install-recommends tuxpaint-stamps-default some-photographs"
  with pytest.raises(UserError, match=line):
    data.open_source("tfds:composed", "train", data_dir=tmp_path / "sets")
  monkeypatch.setattr(sys, "argv", ["composed", "--out", str(tmp_path / "sets")])
  with pytest.raises(SystemExit) as ending:
    command.main()
  error = capsys.readouterr().err
  assert ending.value.code == 2 and error.count("\n") == 1 and line in error
  with pytest.raises(UserError, match="has no config '96pixels'"):
    data.open_source("tfds:composed/96pixels", "train", data_dir=tmp_path / "sets")


def test_folders_that_hold_too_little_are_refused(folders, tmp_path):
  with pytest.raises(UserError, match=r"holds 0 images, fewer than 16"):
    parts.read_parts(32, folders[0], str(tmp_path))
  with pytest.raises(UserError, match="holds no class"):
    parts.read_parts(32, str(tmp_path), folders[1])
  (tmp_path / "few").mkdir()
  for word in ("one", "two", "two_b"):
    Image.new("RGBA", (8, 8), (9, 9, 9, 255)).save(tmp_path / "few" / f"{word}.png")
  with pytest.raises(UserError, match=r"class 'few' .* has 2 kinds of pictures, fewer than the 4"):
    parts.read_parts(32, str(tmp_path), folders[1])
  Image.new("RGBA", (8, 8)).save(tmp_path / "few" / "zero.png")
  with pytest.raises(UserError, match=r"zero.png is transparent all over"):
    parts.read_parts(32, str(tmp_path), folders[1])


def test_a_second_build_is_refused_and_an_interrupted_one_leaves_nothing(
    built, folders, tmp_path, monkeypatch):
  with pytest.raises(UserError, match="is built already; read it as tfds:composed/own_32px"):
    builder.build(built, SMALL, *folders)

  class Interrupt(Exception):
    pass

  def interrupted(*args):
    raise Interrupt

  monkeypatch.setattr(builder, "_example", interrupted)
  with pytest.raises(Interrupt):
    builder.build(tmp_path, SMALL, *folders)
  assert list(tmp_path.iterdir()) == []


def test_the_command_draws_a_sheet(folders, tmp_path):
  command.run(["--objects", folders[0], "--backgrounds", folders[1], "--size", "16",
               "--sheet", str(tmp_path / "sheet.png")])
  assert Image.open(tmp_path / "sheet.png").size == (6 * 16, 8 * 16)


@pytest.fixture(scope="module")
def real():
  """The real packages of cut-outs, and the smallest real package of photographs."""
  parts.check_packages(backgrounds=False)
  return parts.read_parts(64, backgrounds=parts.BACKGROUNDS["tuxpaint-data"][0])


def test_the_real_cut_outs_are_photographs_of_ten_classes(real):
  classes, by_split = real
  assert classes == tuple(parts.CLASSES)
  sizes = [sum(len(by_split[split].objects[c]) for split in parts.SPLITS) for c in range(10)]
  assert min(sizes) >= 8 and 200 <= sum(sizes) <= 260
  for drawing in ("town/roadsigns/stop", "symbols/alphabets/english/filled/uppercase/G_filled"):
    assert not parts.is_photograph(Image.open(f"{parts.STAMPS}/{drawing}.png"))


def test_real_scenes_show_their_objects(real):
  classes, by_split = real
  for label in range(len(classes)):
    plan = plans.draw(np.random.default_rng(label), by_split["test"], label, bias=0.7,
                       most_objects=1)
    scene = scenes.render(plan, by_split["test"], 64)
    assert scene.labels.tolist() == [label] and scene.names[0].startswith(classes[label])
    assert 0.005 < scene.mask.mean() / 255 < 0.6
    encoded = io.BytesIO()
    Image.fromarray(scene.image).save(encoded, "JPEG")
    assert len(encoded.getvalue()) > 900  # no plain picture


def test_the_command_explains_itself(capsys, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["composed", "--help"])
  with pytest.raises(SystemExit) as ending:
    command.main()
  shown = capsys.readouterr().out
  assert ending.value.code == 0
  assert all(option in shown for option in ("--out", "--objects-per-scene", "--backgrounds"))


def test_an_encoder_is_pretrained_with_dilo_and_judged_by_its_reliance_on_backgrounds(
    built, command, tmp_path):
  run = tmp_path / "run"
  here = ["--config.data=tfds:composed", f"--config.data_dir={built}"]
  status, _, error = command(*tiny.flags(
      run, "simclr", *here, "--config.train_split=train", "--config.test_split=test",
      "--config.scene.name=dilo", "--config.scene.radius=0.5", "--config.total_steps=2",
      "--config.evaluate.final=False"))
  assert (status, error) == (0, "")
  task = ["--config=configs/eval/backgrounds.py", f"--config.init={run}"]
  status, out, error = command(*task)
  assert (status, error) == (0, "") and "mixed_rand top1" in out
  results = json.loads((run / "backgrounds" / "results.json").read_text())
  top1 = {name: results[name]["top1"] for name in (builder.ORIGINAL, *plans.VARIANTS)}
  for score in top1.values():
    assert abs(score * 12 / 100 - round(score * 12 / 100)) < 1e-3  # of 12 images
  assert results["background"] == {
      "top1_gap": pytest.approx(top1["mixed_same"] - top1["mixed_rand"]),
      "top1_drop": pytest.approx(top1["original"] - top1["mixed_rand"])}
  assert len({results[name]["l2"] for name in top1}) == 1  # one classifier
  status, _, error = command(*task, "--config.data=bundled:fashion_mnist_mini",
                             f"--workdir={tmp_path / 'other'}")
  assert status == 2 and error.count("\n") == 1 and "has no split 'test_mixed_same'" in error
  status, _, error = command(*task, f"--workdir={tmp_path / 'third'}",
                             "--config.test_split=test+validation")
  assert status == 2 and "its variants need one split" in error
