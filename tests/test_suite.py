"""The suite on a small encoder: what it writes, that it goes on, and what it says is missing."""

import csv
import json

import jax
import numpy as np
import pytest
import tiny

from ssl_jax import checkpoint
from ssl_jax.data import open_source
from ssl_jax.data.transfer_sets import SETS, open_parts
from ssl_jax.errors import UserError
from ssl_jax.evaluate.metrics import top1
from ssl_jax.suite import protocols, running, tuning
from ssl_jax.suite_files import fingerprint, read_arrays, read_results

FLAGS = ("--config=configs/transfer/suite.py", "--config.sets=('again', 'digits', 'aircraft')",
         "--config.episodes=20", "--config.shots=(1, 200)", "--config.corrupted_images=40",
         "--config.severities=(1, 5)", "--config.report=False")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
  """The workdir of an encoder that was never trained."""
  workdir = tmp_path_factory.mktemp("encoder")
  parts = tiny.parts("simclr")
  state = jax.device_get(tiny.first_state(parts, tiny.mesh_of(1)))
  with checkpoint.Checkpoints(str(workdir), 1) as checkpoints:
    checkpoints.save(state, {}, parts.meta | {"config": tiny.settings("simclr")})
  return workdir


@pytest.fixture(scope="module")
def ran(encoder, command, tmp_path_factory):
  """A suite's workdir, what the command printed, and how to run it again with more flags."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(protocols, "CORRUPTIONS", ("contrast", "impulse_noise"))
    patch.setitem(SETS, "again", SETS["imagenet_v2"]._replace(
        spec="bundled:digits", splits={"test": "train[:300]"}, sizes={}, classes=10, of="digits"))
    workdir = tmp_path_factory.mktemp("suite")
    nowhere = f"--config.data_dir={tmp_path_factory.mktemp('nowhere')}"

    def run(*more):
      return command(*FLAGS, f"--config.init={encoder}", f"--workdir={workdir}", nowhere, *more)

    yield workdir, run(), run


def test_every_protocol_has_a_figure_with_its_words_sizes_and_seconds(ran):
  workdir, (status, out, errors), _ = ran
  assert status == 0, errors
  results = read_results(workdir)
  assert results["complete"] and set(results["sets"]) == {"digits", "again"}
  figures = results["sets"]["digits"]
  assert set(figures) == {"linear", "knn", "few_shot_1_prototypes", "few_shot_1_logistic",
                          "corruptions"}
  for name, figure in figures.items():
    assert 10 < figure["value"] <= 100 and figure["seconds"] > 0 and figure["sizes"], name
    assert len(figure["protocol"]) > 20 and figure["metric"] == "top1"
    assert f"digits {name}: {figure['value']:.2f}" in out
  assert figures["linear"]["sizes"] == {"train": 1002, "validation": 250, "test": 545}
  rows = list(csv.DictReader((workdir / "results.csv").open()))
  assert {(row["set"], row["protocol"]) for row in rows} == {
      (name, figure) for name, those in results["sets"].items() for figure in those}


def test_nothing_is_dropped_in_silence(ran):
  workdir, (_, out, _), _ = ran
  results = read_results(workdir)
  assert "archive:aircraft is not at" in results["missing"]["aircraft"]
  assert "get fgvc-aircraft" in results["missing"]["aircraft"] and "aircraft: left out" in out
  left_out = results["data"]["digits"]["left_out"]
  assert set(left_out) == {"few_shot_200_prototypes", "few_shot_200_logistic"}
  assert "200 + 15 images" in left_out["few_shot_200_logistic"]


def test_features_and_predictions_belong_to_the_images_that_they_name(ran):
  workdir, *_ = ran
  told = read_results(workdir)["data"]["digits"]
  held, kept = (read_arrays(workdir / path)
                for path in (told["features"]["test"], told["predictions"]))
  source = open_parts("digits").sources["test"]
  for row in (0, 99, 544):
    assert source.records[int(held["index"][row])]["label"] == held["label"][row]
  np.testing.assert_allclose(held["features"] @ kept["kernel"] + kept["bias"], kept["logits"],
                             rtol=1e-3, atol=1e-2)
  np.testing.assert_allclose(kept["probabilities"].sum(1), 1, rtol=1e-5)
  value = read_results(workdir)["sets"]["digits"]["linear"]["value"]
  assert value == pytest.approx(100 * (kept["logits"].argmax(1) == kept["label"]).mean())
  rows = read_arrays(workdir / "splits" / "digits.npz")
  whole = open_source("bundled:digits", "train").records
  assert [whole[int(i)]["label"] for i in rows["test"]] == held["label"].tolist()


def test_a_shifted_set_is_judged_by_the_classifier_of_another(ran):
  workdir, *_ = ran
  results = read_results(workdir)
  kept = read_arrays(workdir / results["data"]["digits"]["predictions"])
  held = read_arrays(workdir / results["data"]["again"]["features"]["test"])
  want = top1(held["features"] @ kept["kernel"] + kept["bias"],
              held["label"][:, None] == np.arange(10))
  assert results["sets"]["again"]["shifted"]["value"] == pytest.approx(want)
  table = protocols.class_table(("b", "2; 0", "a"), ("a", "b", "c"))
  np.testing.assert_array_equal(table, [[0, 1, 0], [1, 0, 1], [1, 0, 0]])
  with pytest.raises(UserError, match="class 'd' is none of the 2 classes"):
    protocols.class_table(("d",), ("a", "b"))


def test_corruption_hurts_and_its_figures_are_by_kind_and_severity(ran):
  workdir, *_ = ran
  figure = read_results(workdir)["sets"]["digits"]["corruptions"]
  chosen = figure["chosen"]
  assert chosen["clean"] > figure["value"] and chosen["mce"] is None
  assert figure["value"] == pytest.approx(np.mean(list(chosen["accuracy"].values())))
  assert [len(row) for row in chosen["by_severity"].values()] == [2, 2]


def test_the_same_command_goes_on_and_computes_nothing_twice(ran, monkeypatch):
  workdir, _, run = ran
  before = read_results(workdir)
  fewer = json.loads((workdir / "results.json").read_text())
  fewer["data"]["digits"]["done"].remove("knn")
  del fewer["sets"]["digits"]["knn"]
  (workdir / "results.json").write_text(json.dumps(fewer))
  monkeypatch.setattr(running.Encoder, "features", None)  # may not be called
  monkeypatch.setattr(protocols, "many_shot", None)
  status, out, errors = run()
  assert status == 0, errors
  after = read_results(workdir)
  assert "digits knn" in out and "digits linear" not in out
  for name, figure in after["sets"]["digits"].items():
    assert figure["value"] == before["sets"]["digits"][name]["value"]


@pytest.mark.parametrize(("flag", "words"), [
    ("--config.sets=('digit',)", "config.sets has 'digit'; did you mean 'digits'"),
    ("--config.protocols=('lin',)", "config.protocols has 'lin'"),
    ("--config.seed=1", "holds the suite of another config hash")])
def test_mistakes_are_told_in_one_line(ran, flag, words):
  status, _, errors = ran[2](flag)
  assert status == 2 and words in errors and errors.count("\n") == 1


def test_an_encoder_is_told_apart_by_every_bit_and_by_how_it_sees():
  tree = {"a": np.zeros(3, np.float32), "b": {"c": np.ones(2, np.float32)}}
  other = {"a": np.array([0, 0, 1e-38], np.float32), "b": tree["b"]}
  keys = {fingerprint(tree, {"size": 16}), fingerprint(tree, {"size": 32}),
          fingerprint(other, {"size": 16})}
  assert len(keys) == 3 and fingerprint(tree, {"size": 16}) in keys


def test_fine_tuning_is_a_command_that_tells_its_trials(encoder, command, tmp_path):
  status, out, errors = command(
      "--config=configs/transfer/finetune.py", f"--config.init={encoder}",
      f"--workdir={tmp_path}/tuned", "--config.set=digits", "--config.steps=3",
      "--config.candidates=(5, 39)")
  assert status == 0, errors
  results = read_results(tmp_path / "tuned")["finetune"]
  scores = [trial["score"] for trial in results["trials"]]
  assert len(scores) == 2 and out.count("digits rate") == 2
  best = results["trials"][int(np.argmax(scores))]
  assert results["chosen"] == {k: v for k, v in best.items() if k != "score"}
  assert results["sizes"] == {"tune": 1002, "judge": 250, "fit": 1252, "test": 545}
  kept = read_arrays(tmp_path / "tuned" / "predictions" / "digits-finetune.npz")
  assert results["value"] == pytest.approx(top1(kept["logits"], kept["target"]))
  source = open_parts("digits").sources["test"]
  assert source.records[int(kept["index"][9])]["label"] == kept["target"][9].argmax()


def test_a_few_labels_are_a_share_of_each_class():
  parts = tuning.parts_of("digits", "semi_10_percent", {"data_dir": "", "seed": 0})
  counts = np.bincount([parts["fit"].records[i]["label"] for i in range(len(parts["fit"]))])
  assert ((counts >= 11) & (counts <= 14)).all()
  islam = tuning.parts_of("digits", "islam_full", {"data_dir": "", "seed": 0})
  assert {part: len(s) for part, s in islam.items()} == {
      "tune": 876, "judge": 376, "fit": 1252, "test": 545}
