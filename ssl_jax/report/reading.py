"""The workdirs of the transfer suite, as a report reads them."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from ssl_jax import suite_files
from ssl_jax.errors import UserError


class Judged(NamedTuple):
  """An encoder that the suite has judged.

  Attributes:
    name: What the report calls it.
    workdir: The suite's workdir.
    results: Its results.json.
    config: Its config.json.
  """

  name: str
  workdir: epath.Path
  results: dict[str, Any]
  config: dict[str, Any]

  def figure(self, set_name: str, protocol: str) -> dict[str, Any] | None:
    """What a protocol gave on a set, None where it has not run."""
    return self.results["sets"].get(set_name, {}).get(protocol)

  def predictions(self, set_name: str) -> dict[str, np.ndarray] | None:
    """The linear classifier's answers on a set's test part, None where there are none."""
    return self._arrays(self.results["data"].get(set_name, {}).get("predictions"))

  def features(self, set_name: str, part: str) -> dict[str, np.ndarray] | None:
    """Features, labels and indices of a part of a set, None where there are none."""
    return self._arrays(self.results["data"].get(set_name, {}).get("features", {}).get(part))

  def _arrays(self, path: str | None) -> dict[str, np.ndarray] | None:
    if not path or not (self.workdir / path).exists():
      return None
    return suite_files.read_arrays(self.workdir / path)


def read(workdirs: Sequence[str]) -> list[Judged]:
  """Reads workdirs of the suite, and of fine-tuning, whose figures join those of its encoder.

  Encoders are called by their method, and by their folder too where two have one method.

  Raises:
    UserError: A workdir holds no such results, or fine-tunes an encoder that is not among them.
  """
  found, tuned = [], []
  for workdir in workdirs:
    path = epath.Path(workdir)
    results = suite_files.read_results(path)
    if "sets" not in results and "finetune" not in results:
      raise UserError(f"{workdir} holds no results of the transfer suite; run `python -m "
                      "ssl_jax.main --config configs/transfer/suite.py --config.init=ENCODER` and "
                      "name its workdir")
    config = json.loads((path / "config.json").read_text())
    (found if "sets" in results else tuned).append((path, results, config))
  for path, results, config in tuned:
    owners = [r for _, r, _ in found if r["init"] == results["init"]]
    if not owners:
      raise UserError(f"{path} fine-tunes {results['init']}; name the suite's workdir of that "
                      "encoder too")
    short = "_short" if config["steps"] or config["candidates"] else ""
    for owner in owners:
      owner["sets"].setdefault(results["set"], {})[
          f"finetune_{config['protocol']}{short}"] = results["finetune"]
  methods = [str(results.get("method") or "encoder") for _, results, _ in found]
  return [Judged(_name(method, path, results, methods.count(method) > 1), path, results, config)
          for method, (path, results, config) in zip(methods, found)]


def _name(method: str, workdir: epath.Path, results: dict[str, Any], shared: bool) -> str:
  return f"{method} ({epath.Path(results.get('init') or workdir).name})" if shared else method


def in_order(judged: Sequence[Judged], what: str) -> list[str]:
  """The keys of `results[what]` over all encoders, in the order in which they come first."""
  return list(dict.fromkeys(key for j in judged for key in j.results.get(what, {})))


def protocols(judged: Sequence[Judged]) -> list[str]:
  """All protocols, in the order in which they come first."""
  return list(dict.fromkeys(protocol for j in judged for figures in j.results["sets"].values()
                            for protocol in figures))
