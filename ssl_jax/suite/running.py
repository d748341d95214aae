"""The loop over sets and protocols, which may be stopped at any time.

Features are extracted once for each part of each set, and kept; every figure is written as soon as
it is there, so the same command goes on where it was stopped. What the workdir holds is told in
`suite_files`.
"""

import hashlib
import time
from collections.abc import Mapping
from typing import Any

from etils import epath

from ssl_jax import describe
from ssl_jax.assess import home_of
from ssl_jax.checkpoint import load_encoder
from ssl_jax.config import config_hash
from ssl_jax.data import transfer_sets
from ssl_jax.data.transfer_sets import SETS, SHIFTED
from ssl_jax.errors import UserError, nearest
from ssl_jax.logbook import write_json
from ssl_jax.sharding import make_mesh
from ssl_jax.suite.encoder import Encoder, Features
from ssl_jax.suite.protocols import PROTOCOLS, Job, allowed
from ssl_jax.suite_files import RESULTS, read_arrays, read_results, write_arrays, write_table


def run(config: Mapping[str, Any], workdir: str | None) -> None:
  """Runs the suite; the same again goes on.

  Raises:
    UserError: There is no such encoder, set or protocol, the workdir holds another suite, or no
      set at all could be had.
  """
  for what, known in (("sets", SETS), ("protocols", PROTOCOLS)):
    for name in config[what]:
      if name not in known:
        raise UserError(f"config.{what} has {name!r}; {nearest(name, known)}")
  saved = load_encoder(config["init"])
  workdir = epath.Path(workdir or home_of(config["init"]) / "suite")
  encoder = Encoder(saved, view_of(config, saved.meta["preprocessing"]), config["batch_size"])
  results = begin(workdir, config, encoder, saved)
  names = sorted(config["sets"] or SETS, key=lambda name: SETS[name].rule == SHIFTED)
  for name in names:
    try:
      parts = transfer_sets.open_parts(name, config["data_dir"] or None)
      run_set(name, parts, encoder, config, workdir, results)
    except UserError as error:
      results["missing"][name] = str(error)
      print(f"{name}: left out; {error}", flush=True)
    else:
      results["missing"].pop(name, None)
    write_json(workdir / RESULTS, results)
  if not results["sets"]:
    raise UserError(f"none of {len(names)} sets could be judged; {workdir}/{RESULTS} tells why")
  results["complete"] = True
  write_json(workdir / RESULTS, results)
  print(f"results: {workdir}/{RESULTS}")


def view_of(config: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
  """How images are shown: as the encoder's checkpoint says, with what the config changes."""
  return dict(own) | {k: v for k, v in config["view"].items() if v}


def begin(workdir: epath.Path, config: Mapping[str, Any], encoder: Encoder, saved
          ) -> dict[str, Any]:
  """The results so far; {} of a new suite."""
  # More sets or protocols may be asked for later; whatever changes a figure may not.
  judged = {k: v for k, v in config.items()
            if k not in ("init", "sets", "protocols", "data_dir", "batch_size", "slots", "report")}
  identity = {"encoder": encoder.key, "config_hash": config_hash(judged)}
  results = read_results(workdir)
  for key, value in identity.items():
    if results.get(key, value) != value:
      raise UserError(f"{workdir} holds the suite of another {key.replace('_', ' ')} "
                      f"({results[key]}, now {value}); name another --workdir")
  workdir.mkdir(parents=True, exist_ok=True)
  write_json(workdir / "config.json", dict(config))
  meta = saved.meta
  return {"task": "suite", "init": config["init"], "step": meta.get("step"),
          "method": meta.get("method"), "seed": config["seed"], **identity,
          **describe.provenance(make_mesh()), "complete": False,
          "sets": results.get("sets", {}), "data": results.get("data", {}),
          "missing": results.get("missing", {})}


def run_set(name: str, opened: transfer_sets.Parts, encoder: Encoder, config: Mapping[str, Any],
            workdir: epath.Path, results: dict[str, Any]) -> None:
  """Every protocol that is asked for, allowed and not done."""
  entry, sources = SETS[name], opened.sources
  told = results["data"].setdefault(name, {"left_out": {}, "done": []})
  wanted = [p for p in config["protocols"] or PROTOCOLS
            if p in allowed(entry) and p not in told["done"]]
  if not wanted:
    return
  if opened.rows:
    write_arrays(workdir / "splits" / f"{name}.npz", opened.rows)
  whole = next(iter(sources.values()))
  told |= {
      "title": entry.title, "papers": list(entry.papers), "classes": len(whole.class_names),
      "class_names": list(whole.class_names), "metric": entry.metric,
      "split_rule": transfer_sets.SPLIT_RULES[entry.rule], "warnings": opened.warnings,
      "sources": {part: {"spec": s.spec, "split": s.split} for part, s in sources.items()},
      "sizes": {part: len(s) for part, s in sources.items()}, "features": {}}
  parts = {}
  for part, source in sources.items():
    path, parts[part] = features_of(name, part, source, encoder, workdir)
    told["features"][part] = str(path.relative_to(workdir))
  job = Job(name, entry, len(whole.class_names), sources, parts, encoder, config, workdir, results)
  for protocol in wanted:
    start = time.perf_counter()
    figures = PROTOCOLS[protocol](job)
    seconds = time.perf_counter() - start
    for figure, row in figures.items():
      results["sets"].setdefault(name, {})[figure] = {"seconds": seconds} | row
      spread = "" if row["interval"] is None else f" ± {row['interval']:.2f}"
      print(f"{name} {figure}: {row['value']:.2f}{spread} {row['metric']}", flush=True)
    told["done"].append(protocol)
    write_json(workdir / RESULTS, results)
    write_table(workdir / "results.csv", results["sets"])


def features_of(name: str, part: str, source, encoder: Encoder, workdir: epath.Path
                ) -> tuple[epath.Path, Features]:
  """A part's features, from the workdir where they are kept, else extracted and kept there."""
  key = hashlib.sha256(f"{encoder.key} {source.fingerprint}".encode()).hexdigest()[:12]
  path = workdir / "features" / f"{name}-{part}-{key}.npz"
  if not path.exists():
    held = encoder.features(source)
    if SETS[name].metric == "map11":
      held["targets"] = transfer_sets.targets_of(
          source.records, len(source.class_names))[held["index"]]
    write_arrays(path, held)
  return path, read_arrays(path)
