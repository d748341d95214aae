"""Makes docs/results.md: every method on the bundled set, full Fashion-MNIST and composed scenes.

    python -m benchmarks.evidence [--suite S] [--method M] [--seed N] [--machine NAME] [--steps N]
    python -m benchmarks.evidence --table

Each run is the main command in a process of its own, and leaves a record of its figures in
benchmarks/results/MACHINE. A run that was interrupted goes on from its last checkpoint, a run with
a record is left out, and a record is void once the config says something else (a field that came
with a later version is nothing else): the same command again does what is missing. Masks that a run
needs are estimated before it. The page is written anew from the records after each run; `--table`
writes it and runs nothing. `--dry_run` says what would be run. On another machine, name it, so that
its records stand beside the others: `--machine h200 --suite full_resnet18`.
"""

import argparse
import datetime
import importlib
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks import results_page, timing
from benchmarks.suites import SUITES
from ssl_jax.config import config_hash, difference, resolve

ROOT = pathlib.Path(__file__).parent.parent
RECORDS = ROOT / "benchmarks" / "results"
RUNS = ROOT / "runs" / "evidence"
PAGE = ROOT / "docs" / "results.md"

class Job(NamedTuple):
  """One run: which it is, the fields that its command sets, and its whole config."""

  suite: str
  method: str
  seed: int
  fields: dict[str, Any]
  config: dict[str, Any]

  @property
  def name(self) -> str:
    return f"{self.suite}-{self.method}-{self.seed}"

  @property
  def folder(self) -> str:
    return f"{self.name}-{config_hash(self.config)}"


def job(suite: str, method: str, seed: int, total_steps: int | None = None) -> Job:
  """The run of a method in a suite."""
  chosen = SUITES[suite]
  # Pixels and the random encoder are the same for all methods: SimCLR's run has them.
  fields = {"data": chosen.data, "seed": seed, "evaluate.baselines": method == "simclr",
            "eval_every_percent": 0.0, "tensorboard": False}
  if total_steps:
    fields["total_steps"] = total_steps
  config = importlib.import_module(f"configs.{chosen.config}").get_config(method)
  for name, value in fields.items():
    owner = config
    for part in name.split(".")[:-1]:
      owner = owner[part]
    owner[name.split(".")[-1]] = value
  return Job(suite, method, seed, fields, resolve(config, tuple(fields)))


def jobs(suites, methods=None, seeds=None, total_steps=None) -> Iterator[Job]:
  """All runs, those of one seed together, so that an interrupted hour has compared the methods."""
  for suite in suites:
    chosen = SUITES[suite]
    for seed in seeds or chosen.seeds:
      first = seed == chosen.seeds[0] or chosen.repeated is None
      for method in methods or (chosen.rows if first else chosen.repeated):
        yield job(suite, method, seed, total_steps)


def command(this: Job) -> list[str]:
  """What follows `python`."""
  return ["-m", "ssl_jax.main", f"--config=configs/{SUITES[this.suite].config}.py:{this.method}",
          f"--workdir=runs/evidence/{this.folder}",
          *(f"--config.{name}={value}" for name, value in this.fields.items())]


def record_of(this: Job, folder: pathlib.Path) -> dict[str, Any] | None:
  """The record of a run, if there is one and it is of this config."""
  path = folder / f"{this.name}.json"
  record = json.loads(path.read_text()) if path.exists() else None
  return record if record and difference(record["config"], this.config) is None else None


def make_masks(this: Job) -> None:
  """Estimates the masks that a run reads, if they are not there; goes on where it was stopped."""
  folder = this.config["masks"]
  if "/" not in folder:
    return
  split = ["--data", this.config["data"], "--split", this.config["train_split"]]
  method = folder.rpartition("-")[2]
  taught = []
  if method == "learned":
    weights = ROOT / folder.replace("-learned", "-learned.npz")
    few = [*split[:-1], f"{this.config['train_split']}[:2500]"]
    if not weights.exists():
      teachers = folder.replace("-learned", "-teachers")
      python("-m", "ssl_jax.saliency", *few, "--method", "mean", "--out", teachers)
      python("-m", "ssl_jax.saliency.teach", *few, "--masks", teachers, "--weights", str(weights))
    taught = ["--weights", str(weights)]
  python("-m", "ssl_jax.saliency", *split, "--method", method, "--out", folder, *taught)


def backgrounds(workdir: pathlib.Path) -> dict[str, Any]:
  """Accuracy on swapped backgrounds: figure -> {"top1": ..}."""
  path = workdir / "backgrounds" / "results.json"
  if not path.exists():
    python("-m", "ssl_jax.main", "--config=configs/eval/backgrounds.py",
           f"--config.init={workdir}")
  found = json.loads(path.read_text())
  return {"mixed_same": {"top1": found["mixed_same"]["top1"]},
          "mixed_rand": {"top1": found["mixed_rand"]["top1"]},
          "drop": {"top1": found["background"]["top1_drop"]},
          "gap": {"top1": found["background"]["top1_gap"]}}


def python(*arguments: str) -> None:
  """Runs Python from the project's root."""
  subprocess.run([sys.executable, *arguments], check=True, cwd=ROOT)


def train_seconds(workdir: pathlib.Path, batch_size: int) -> float:
  """The seconds that the rows of metrics.jsonl took: steps and compilation, no evaluation."""
  rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  seconds, before = 0.0, 0
  for row in rows:
    if "images_per_second" in row:
      seconds += (row["step"] - before) * batch_size / max(row["images_per_second"], 1e-9)
      before = row["step"]
  return seconds


def run(this: Job, folder: pathlib.Path) -> dict[str, Any]:
  """Runs one, or goes on with it, and keeps its record."""
  workdir = RUNS / this.folder
  resumed = (workdir / "metrics.jsonl").exists()
  start = time.perf_counter()
  if not (workdir / "results.json").exists():
    make_masks(this)
    python(*command(this))
  seconds = time.perf_counter() - start
  results = json.loads((workdir / "results.json").read_text())
  record = {
      "suite": this.suite, "method": this.method, "seed": this.seed, "data": results["data"],
      "config": this.config, "steps": results["steps"],
      "command": " ".join(["python", *command(this)]),
      "train_seconds": round(train_seconds(workdir, this.config["batch_size"]), 1),
      # of a run that was interrupted, only the last part was timed
      "seconds": None if resumed else round(seconds, 1),
      "hardware": hardware(results["devices"]), "versions": results["versions"],
      "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
      "results": {name: results[name] for name in ("linear", "knn", "few_label", "baselines")
                  if name in results}}
  if SUITES[this.suite].swapped:
    record["results"] |= backgrounds(workdir)
  timing.write(folder / f"{this.name}.json", record)
  return record


def hardware(devices: str) -> str:
  """The devices of a run, and the processor where they are nothing else."""
  return timing.processor() if devices.endswith("x cpu") else devices


def write_page(folder: pathlib.Path, page: pathlib.Path) -> None:
  """Writes the page from the records of all machines, each in a folder of its own."""
  records = [json.loads(path.read_text()) for path in sorted(folder.glob("*/*.json"))]
  page.write_text(results_page.render(
      records, {name: (suite.title, suite.rows, suite.columns)
                for name, suite in SUITES.items()}))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--suite", action="append", choices=list(SUITES),
                      help="may be repeated; bundled and full by default")
  parser.add_argument("--method", action="append", help="row of the table; all by default")
  parser.add_argument("--seed", action="append", type=int, help="the suite's by default")
  parser.add_argument("--steps", type=int, help="another length, for a trial: no record is kept")
  parser.add_argument("--machine", default="cpu", help="the folder of its records")
  parser.add_argument("--table", action="store_true", help="write the page and run nothing")
  parser.add_argument("--dry_run", action="store_true", help="say what would be run")
  arguments = parser.parse_args()
  folder = RUNS / "trial" if arguments.steps else RECORDS
  page = folder / "results.md" if arguments.steps else PAGE
  records = folder / arguments.machine
  wanted = [] if arguments.table else list(jobs(
      arguments.suite or ("bundled", "full", "composed"), arguments.method, arguments.seed,
      arguments.steps))
  missing = [this for this in wanted if record_of(this, records) is None]
  if wanted:
    print(f"{len(wanted)} runs, {len(wanted) - len(missing)} of them recorded", flush=True)
  if arguments.dry_run:
    print("\n".join(" ".join(["python", *command(this)]) for this in missing))
    return
  for number, this in enumerate(missing, 1):
    print(f"== {number} of {len(missing)}: {this.name}", flush=True)
    run(this, records)
    write_page(folder, page)
  if not missing:
    write_page(folder, page)
  print(f"written: {page}")


if __name__ == "__main__":
  main()
