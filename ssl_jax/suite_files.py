"""What the transfer suite leaves in its workdir, and how it is written and read.

    config.json
    results.json              all figures, see below; rewritten after every protocol of every set
    results.csv               set, protocol, metric, value, interval, seconds: one row a figure
    splits/SET.npz            train, validation: i32 rows of the set's training part, as they were
                              divided; absent where the set comes divided
    features/SET-PART-KEY.npz features f32[N,F], label i32[N] (-1 none), index i32[N] of the image
                              in its source, targets u8[N,C] where an image may have many classes.
                              KEY tells encoder, preprocessing and images apart
    predictions/SET-linear.npz  logits f32[M,C] of the chosen and refitted linear classifier on the
                              test part, probabilities f32[M,C], label, index, targets as above;
                              kernel f32[F,C] and bias f32[C] of it

`results.json`:

    {"task": "suite", "init": .., "step": .., "encoder": hex, "method": .., "seed": ..,
     "config_hash": .., "devices": .., "versions": .., "complete": whether every protocol has run,
     "sets": {SET: {PROTOCOL: {
        "protocol": one sentence, "metric": "top1" | "mean_per_class" | "map11" | ..,
        "value": percent, "interval": half-width of the 95 % interval in percent or null,
        "chosen": {"l2": .., "validation": percent, ..}, "sizes": {"train": n, "test": m, ..},
        "seconds": ..}}},
     "data": {SET: {"title": .., "papers": [..], "classes": C, "class_names": [..],
        "metric": .., "split_rule": .., "sources": {PART: {"spec": .., "split": ..}},
        "sizes": {PART: n}, "features": {PART: path below the workdir},
        "predictions": path or absent, "warnings": [what differs from the table],
        "left_out": {PROTOCOL: why}, "done": [what need not be run again]}},
     "missing": {SET: why it was left out, and the way to get it}}

PART is train, validation or test. The sources of a set are opened again by
`data.transfer_sets.open_parts(SET, data_dir)`, and `index` counts within the source of its part.
PROTOCOL is linear, knn, few_shot_{1,5,20,50}_{prototypes,logistic}, corruptions, shifted.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

RESULTS = "results.json"
PARTS = ("train", "validation", "test")


def write_arrays(path: epath.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes a .npz file so that a reader finds a whole one or none."""
  path.parent.mkdir(parents=True, exist_ok=True)
  block = io.BytesIO()
  np.savez(block, **arrays)
  temporary = path.parent / f".{path.name}.tmp{os.getpid()}"
  temporary.write_bytes(block.getvalue())
  temporary.replace(path)


def read_arrays(path: epath.Path) -> dict[str, np.ndarray]:
  """Reads what `write_arrays` wrote."""
  with epath.Path(path).open("rb") as file, np.load(file) as archive:
    return {name: archive[name] for name in archive.files}


def read_results(workdir: epath.Path) -> dict[str, Any]:
  """The results of a workdir, {} where there are none yet."""
  path = epath.Path(workdir) / RESULTS
  return json.loads(path.read_text()) if path.exists() else {}


def write_table(path: epath.Path, sets: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
  """Writes `results["sets"]` as CSV, one row a figure."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(("set", "protocol", "metric", "value", "interval", "seconds"))
  for name, figures in sets.items():
    for protocol, figure in figures.items():
      writer.writerow((name, protocol, figure["metric"], *(
          "" if figure[key] is None else f"{figure[key]:.4f}"
          for key in ("value", "interval", "seconds"))))
  temporary = path.parent / f".{path.name}.tmp{os.getpid()}"
  temporary.write_text(text.getvalue())
  temporary.replace(path)


def fingerprint(variables: Any, preprocessing: Mapping[str, Any]) -> str:
  """Twelve hexadecimal digits of an encoder: every bit of its variables, and how it is shown
  images."""
  digest = hashlib.sha256(json.dumps(preprocessing, sort_keys=True).encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    digest.update(jax.tree_util.keystr(path).encode())
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()[:12]
