"""SimCLR here and by lightly on PyTorch: same network, steps, batch and evaluation, on this CPU.

    python -m benchmarks.lightly_comparison --torch_python /opt/bench/bin/python [--json FILE]

Network, head, crop, optimizer and learning rates are read from a config (the quickstart's). Ours
runs as the main command does, with an empty compilation cache; lightly's own transform and loss run
under the Python that is named (docs/benchmarks.md says how to make one). Both encoders are then
judged by this package's k-NN and probes. `train_seconds` are those of pretraining, compilation
included; the command's, for us, hold the evaluation too.
"""

import argparse
import functools
import importlib
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from ssl_jax import assess, build, config, data, describe


def settings(name: str, total: int | None, seed: int) -> dict:
  """The checked config, as SimCLR."""
  made = importlib.import_module(f"configs.{name}").get_config()
  made.seed = seed
  if total:
    made.total_steps = total
  resolved = config.resolve(made, ("total_steps",) if total else ())
  if resolved["method"]["name"] != "simclr":
    raise SystemExit(f"error: configs/{name}.py is {resolved['method']['name']}, and what is "
                     "compared is simclr; name a config of simclr with --config")
  return resolved


def job(resolved: dict, parts: build.Parts, workers: int) -> dict:
  """What the rival has to build."""
  backbone, method, views = parts.method.network.backbone, resolved["method"], resolved["views"]
  network = {name: getattr(backbone, name) for name in (
      "blocks", "block", "strides", "stem", "zero_init_last")}
  network["stem_width"] = round(backbone.width * backbone.stem_width)
  network["widths"] = [round(backbone.width * w) for w in backbone.widths]
  return {
      "network": network,
      "head": {"depth": method.get("depth", 2), "hidden": method.get("hidden"),
               "output": method.get("output", 128)},
      "temperature": method["temperature"], "batch": resolved["batch_size"],
      "views": {"size": views["size"], "strength": views.get("strength", 1.0),
                "min_area": views.get("min_area", 0.08), "blur": views.get("blur", 0.5)},
      "learning_rates": [float(parts.learning_rate(i)) for i in range(parts.total_steps)],
      "momentum": resolved["optimizer"].get("momentum", 0.9),
      "weight_decay": resolved["optimizer"]["weight_decay"],
      "seed": resolved["seed"], "workers": workers}


def parameters(parts: build.Parts, size: int) -> int:
  """The number of parameters of our backbone, which the rival's must equal."""
  init = functools.partial(parts.method.network.backbone.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
  return describe.count(shapes["params"])


def rate(seconds_after_step: list[float], batch: int) -> float:
  """Images per second in the median of ten equal stretches of a run."""
  marks = np.interp(np.linspace(0, len(seconds_after_step) - 1, 11),
                    np.arange(len(seconds_after_step)), seconds_after_step)
  stretch = (len(seconds_after_step) - 1) / 10
  return batch * stretch / statistics.median(np.diff(marks))


def spent(command: list[str], **options) -> tuple[subprocess.CompletedProcess, dict[str, float]]:
  """Runs a command to its end; the seconds that passed, and those that it had a processor, which
  other programs on the machine disturb less."""
  before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
  done = subprocess.run(command, check=True, **options)
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
  return done, {"command_seconds": time.perf_counter() - start, "command_cpu_seconds": cpu}


def run_ours(resolved: dict, name: str, folder: pathlib.Path) -> dict:
  """Pretrains and judges with the main command."""
  workdir = folder / "ours"
  command = [sys.executable, "-m", "ssl_jax.main", f"--config=configs/{name}.py",
             f"--workdir={workdir}", f"--config.seed={resolved['seed']}",
             "--config.evaluate.baselines=False", "--config.eval_every_percent=0.0",
             "--config.tensorboard=False"]
  if resolved["total_steps"]:
    command.append(f"--config.total_steps={resolved['total_steps']}")
  environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
  _, costs = spent(command, env=environment)
  results = json.loads((workdir / "results.json").read_text())
  rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  rows = [row for row in rows if "images_per_second" in row]
  seconds, before = 0.0, 0
  for row in rows:
    seconds += (row["step"] - before) * resolved["batch_size"] / row["images_per_second"]
    before = row["step"]
  speeds = [row["images_per_second"] for row in rows[1:] or rows]
  return {"train_seconds": seconds, "images_per_second": statistics.median(speeds),
          **costs, "versions": results["versions"],
          **{k: results[k]["top1"] for k in ("linear", "knn", "few_label")}}


def run_lightly(resolved: dict, parts: build.Parts, python: str, workers: int,
                folder: pathlib.Path) -> dict:
  """Pretrains in the other Python, then judges its features here."""
  sources = {split: build.open_split(resolved, f"{split}_split") for split in ("train", "test")}
  loaded = {split: data.load_all(source, parts.canvas) for split, source in sources.items()}
  np.savez(folder / "images.npz", **{split: v["image"] for split, v in loaded.items()})
  (folder / "job.json").write_text(json.dumps(job(resolved, parts, workers)))
  command = [python, "-m", "benchmarks.lightly_run",
             *(str(folder / name) for name in ("job.json", "images.npz", "features.npz"))]
  done, costs = spent(command, stdout=subprocess.PIPE, text=True)
  told = json.loads(done.stdout.splitlines()[-1])
  ours = parameters(parts, resolved["views"]["size"])
  if told["parameters"] != ours:
    raise SystemExit(f"error: the rival's network has {told['parameters']:,} parameters and ours "
                     f"{ours:,}; the figures would not compare")
  features = np.load(folder / "features.npz")
  scores = assess.scores((features["train"], loaded["train"]["label"]),
                         (features["test"], loaded["test"]["label"]),
                         len(sources["train"].class_names), resolved["evaluate"], resolved["seed"])
  seconds = told["seconds_after_step"]
  return {"train_seconds": seconds[-1], **costs, "workers": workers,
          "images_per_second": rate(seconds, resolved["batch_size"]),
          "parameters": told["parameters"], "versions": told["versions"],
          **{k: scores[k]["top1"] for k in ("linear", "knn", "few_label")}}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--torch_python", required=True, help="a Python with torch and lightly")
  parser.add_argument("--config", default="quickstart", help="a file of configs/, without .py")
  parser.add_argument("--steps", type=int, help="the length, where it is not the config's")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--workers", type=int, default=0,
                      help="processes of lightly's loader; 0 makes views between the steps")
  parser.add_argument("--json", help="file to write the figures to")
  arguments = parser.parse_args()
  resolved = settings(arguments.config, arguments.steps, arguments.seed)
  parts = build.parts(resolved, build.open_split(resolved, "train_split"))
  load = round(os.getloadavg()[0], 2)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    rows = {"ssl_jax": run_ours(resolved, arguments.config, folder),
            "lightly": run_lightly(resolved, parts, arguments.torch_python, arguments.workers,
                                   folder)}
  rows["ssl_jax"]["parameters"] = parameters(parts, resolved["views"]["size"])
  names = ("train_seconds", "images_per_second", "linear", "knn", "few_label", "command_seconds",
           "command_cpu_seconds", "parameters")
  print(timing.table([f"SimCLR, {parts.total_steps} steps of {resolved['batch_size']}", *names],
                     [[who, *(row[k] for k in names)] for who, row in rows.items()]))
  ratio = rows["lightly"]["train_seconds"] / rows["ssl_jax"]["train_seconds"]
  print(f"lightly takes {ratio:.2f} times as long to pretrain; load before the start {load}")
  timing.write(arguments.json, {
      "part": "lightly_comparison", **timing.machine(), "load": load, "steps": parts.total_steps,
      "batch": resolved["batch_size"], "config_hash": config.config_hash(resolved),
      "command": " ".join(sys.argv[1:]), "time_ratio": ratio, "rows": rows})


if __name__ == "__main__":
  main()
