"""The benchmarks run in small sizes, and their figures and pages hold what is read from them."""

import json
import os
import pathlib
import subprocess

import pytest

import benchmarks
from benchmarks import ceilings, evidence, losses, plan, results_page, ring, step, suites, timing
from configs import fashion, fashion_r18
from ssl_jax.config import resolve

ROOT = pathlib.Path(__file__).parent.parent


def positive(row, *names):
  return all(row[name] > 0 for name in names)


def test_a_median_is_of_the_calls_after_the_warm_up():
  calls = []
  ms = timing.median_ms(lambda: calls.append(1), lambda _: None, seconds=0.0, group=2)
  assert len(calls) == timing.WARM_UP + 2 * timing.LEAST
  assert 0 <= ms < 100


def test_a_table_has_its_columns_under_each_other():
  lines = timing.table(["name", "ms"], [["a", 12.345], ["longer", None]]).splitlines()
  assert lines == ["name      ms", "a       12.3", "longer     -"]


def test_ceilings_are_written_with_the_machine(tmp_path):
  path = tmp_path / "folder" / "ceilings.json"
  timing.write(path, timing.machine() | ceilings.measure(small=True))
  read = json.loads(path.read_text())
  assert positive(read, "copy_gbs", "bf16_matmul_tflops", "devices")
  assert {"device", "platform", "cpu", "jax", "python", "load", "date"} <= set(read)


def test_every_loss_has_a_row_for_every_batch_and_memory_grows_with_it():
  rows = losses.measure(small=True)
  assert all(positive(row, "ms") for row in rows + losses.once(64))
  assert {row["form"] for row in rows} == {"dense", "blocks"}
  for name in ("nt_xent", "info_nce", "supervised_contrastive"):
    small, large = sorted((r for r in rows if (r["loss"], r["form"]) == (name, "dense")),
                          key=lambda r: r["batch"])
    assert 0 < small["memory_mib"] < large["memory_mib"]


def test_blocks_send_no_more_than_a_ring_and_both_give_the_same():
  blocks, around = ring.measure(devices=8, batch=64)
  # 128 embeddings reach a device in one block from the 7 others, or 16 at a time in 8 rounds.
  assert blocks["received_mib"] * 2**20 >= 2 * 128 * ring.WIDTH * 4 * 7 / 8
  assert around["received_mib"] * 2**20 >= 2 * 8 * 16 * ring.WIDTH * 4
  assert blocks["received_mib"] < around["received_mib"]


def test_the_step_is_measured_with_its_views_and_without():
  rows, limits = step.measure(batch=4, small=True)
  rows = {row["name"]: row for row in rows}
  assert set(rows) == {"step", "views", "no views"}
  assert positive(limits, "copy_gbs", "bf16_matmul_tflops")
  for row in rows.values():
    assert positive(row, "ms", "images_per_second", "gflop", "gbyte", "share_percent")
  assert rows["step"]["gflop"] > rows["no views"]["gflop"]


def test_shares_are_of_the_higher_floor():
  limits = {"copy_gbs": 1000.0, "bf16_matmul_tflops": 100.0}
  row = step.row("step", 10, 50.0, {"gflop": 1000.0, "gbyte": 20.0}, limits)
  assert (row["floor_compute_ms"], row["floor_memory_ms"]) == (10.0, 20.0)
  assert row["share_percent"] == pytest.approx(40.0)
  assert row["images_per_second"] == pytest.approx(200.0)


def test_the_gpu_job_refuses_a_part_that_is_not_there():
  script = pathlib.Path(next(iter(benchmarks.__path__))) / "gpu.sh"
  done = subprocess.run([script, "speed"], capture_output=True, text=True, check=False)
  assert done.returncode == 2
  assert "'speed'" in done.stderr and "ceilings" in done.stderr
  assert os.access(script, os.X_OK)


@pytest.mark.parametrize("method", suites.METHODS)
def test_every_method_has_a_recipe_of_the_same_length(method):
  config = resolve(fashion.get_config(method))
  assert config["method"]["name"] == method
  assert config["total_steps"] == resolve(fashion.get_config())["total_steps"]
  assert resolve(fashion_r18.get_config(method))["model"]["name"] == "resnet18"


def record(method, seed, top1, **results):
  score = {name: {"top1": top1} for name in suites.LINEAR}
  return {"suite": "bundled", "method": method, "seed": seed, "steps": 390,
          "config": {"batch_size": 256, "evaluate": {
              "knn_k": 20, "knn_temperature": 0.1, "few_per_class": 10, "few_draws": 5}},
          "train_seconds": 100.0, "seconds": None if seed else 130.0, "hardware": "a laptop",
          "command": f"python -m ssl_jax.main --config=x:{method}", "versions": {"jax": "0.10.2"},
          "results": score | results}


def test_the_page_shows_means_spreads_baselines_and_what_was_not_run():
  pixels = {"linear": {"top1": 83.0}, "knn": {"top1": 80.0}, "few_label": {"top1": 70.0}}
  baselines = {"pixels": pixels, "random_init": pixels}
  page = results_page.render(
      [record("simclr", 0, 84.0, baselines=baselines), record("simclr", 1, 86.0),
       record("byol", 0, 81.25)],
      {"bundled": ("Bundled", suites.METHODS, suites.LINEAR),
       "full": ("Full", suites.METHODS, suites.LINEAR)})
  assert "| simclr | 85.0 ± 1.4 | 85.0 ± 1.4 | 85.0 ± 1.4 | 2 | 100 | 130 |" in page
  assert "| byol | 81.2 | 81.2 | 81.2 | 1 | 100 | 130 |" in page
  assert "| pixels | 83.0 | 80.0 | 70.0 | 1 |  |  |" in page
  assert page.index("| simclr") < page.index("| byol") < page.index("| random init")
  assert "On a laptop; jax 0.10.2; 390 steps of 256 images." in page
  assert "Not run yet: `python -m benchmarks.evidence --suite full`." in page


def test_a_record_counts_only_for_the_config_that_made_it(tmp_path):
  this = evidence.job("bundled", "simclr", 0)
  assert evidence.record_of(this, tmp_path) is None
  timing.write(tmp_path / f"{this.name}.json", {"config": this.config})
  assert evidence.record_of(this, tmp_path) == {"config": this.config}
  longer = evidence.job("bundled", "simclr", 0, total_steps=1000)
  assert longer.folder != this.folder
  assert evidence.record_of(longer, tmp_path) is None


def test_the_time_of_training_is_that_of_the_rows(tmp_path):
  rows = [{"step": 10, "images_per_second": 128.0}, {"step": 10, "knn_top1": 50.0},
          {"step": 30, "images_per_second": 1280.0}]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  assert evidence.train_seconds(tmp_path, batch_size=128) == pytest.approx(10.0 + 2.0)


def test_plans_are_kept_for_their_config_and_make_the_page(tmp_path, monkeypatch):
  made = []

  def plan_for(config, where):
    made.append(where.name)
    return {"slice": where.name, "batch_size": config["batch_size"], "hbm_needed": 2**34,
            "hbm_capacity": 2**33, "fits": False, "remedies": [
                {"change": "--config.model.remat=True", "hbm_needed": 2**32, "fits": True}]}
  monkeypatch.setattr(plan.plan, "plan_for", plan_for)
  monkeypatch.setattr(plan, "RECORDS", tmp_path / "plans")
  monkeypatch.setattr(plan, "PAGE", tmp_path / "pods.md")
  plan.PAGE.write_text(f"before\n{plan.BEGIN}\nold\n{plan.END}\nafter\n")
  for _ in range(2):
    plan.planned("simclr_r50_imagenet")
  plan.planned("mocov2_r50_imagenet")
  assert made == ["v5e-256", "v5e-16"]  # batches of 4096 and 256, each made once
  plan.write_page()
  page = plan.PAGE.read_text()
  assert page.startswith("before") and page.endswith("after\n") and "old" not in page
  assert "| simclr_r50_imagenet | v5e-256 | 4,096 | 16.0 of 8 " in page
  assert "`--config.model.remat=True`" in page and "Not planned yet: byol" in page
  text = {"figures": {"temporaries": 2**30}, "step_seconds": 0.02, "bound": "memory", "hours": 0.2,
          "images_per_second": 25600.0, "total_steps": 36000, "images_per_second_per_host": 6400.0}
  filled = plan.row(json.loads(next(iter(plan.RECORDS.iterdir())).read_text()) | text)
  assert filled.endswith("| 1.0 | 20.0 | memory | 25,600 | 36,000 | 0.2 | 6,400 |")


def test_the_page_of_results_is_what_the_records_say(tmp_path):
  evidence.write_page(evidence.RECORDS, tmp_path / "results.md")
  assert (tmp_path / "results.md").read_text() == evidence.PAGE.read_text()
