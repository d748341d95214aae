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
  """Reads the suite's workdirs.

  Encoders are called by their method, and by their folder too where two have one method.

  Raises:
    UserError: A workdir holds no results of the suite.
  """
  found = []
  for workdir in workdirs:
    path = epath.Path(workdir)
    results = suite_files.read_results(path)
    if "sets" not in results:
      raise UserError(f"{workdir} holds no results of the transfer suite; run `python -m "
                      "ssl_jax.main --config configs/transfer/suite.py --config.init=ENCODER` and "
                      "name its workdir")
    found.append((str(results.get("method") or "encoder"), path, results))
  names = [name for name, _, _ in found]
  return [Judged(_name(name, path, results, names.count(name) > 1), path, results,
                 json.loads((path / "config.json").read_text()))
          for name, path, results in found]


def _name(method: str, workdir: epath.Path, results: dict[str, Any], shared: bool) -> str:
  return f"{method} ({epath.Path(results.get('init') or workdir).name})" if shared else method


def in_order(judged: Sequence[Judged], what: str) -> list[str]:
  """The keys of `results[what]` over all encoders, in the order in which they come first."""
  return list(dict.fromkeys(key for j in judged for key in j.results.get(what, {})))


def protocols(judged: Sequence[Judged]) -> list[str]:
  """All protocols, in the order in which they come first."""
  return list(dict.fromkeys(protocol for j in judged for figures in j.results["sets"].values()
                            for protocol in figures))
