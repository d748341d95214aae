"""The record that a conversion gives, and the strict match that leads to it."""

import mmap
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.convert.layouts import Layout, preprocessing
from ssl_jax.convert.structure import NORM, STATISTICS, infer, shapes
from ssl_jax.errors import UserError

# What a run of ours would tell of its data; a file of others tells nothing.
UNKNOWN = {"data": "", "data_dir": "", "train_split": "train", "test_split": "test"}


class Report(NamedTuple):
  """What came of a file's tensors.

  Attributes:
    layout: The name of the layout, and whose it is.
    matched: Tensors of the backbone, all of which were found.
    left_out: Other tensors, by the first part of their names: heads, queues, second networks.
    sanity: How the weights compare with those of a random encoder, in words.
  """

  layout: str
  matched: int
  left_out: dict[str, int]
  sanity: str

  def __str__(self) -> str:
    rest = ", ".join(f"{name} {count}" for name, count in self.left_out.items())
    return (f"{self.layout}: {self.matched} of {self.matched} tensors"
            + (f", left out: {rest}" if rest else "") + f"; {self.sanity}")


class Encoder(NamedTuple):
  """A frozen encoder on the host, wherever it came from.

  Attributes:
    variables: {"params": .., "batch_stats": ..} of the backbone, f32.
    meta: "model" and "preprocessing", as `build.backbone` and `build.encode` want them, and the
      "method", "step" and "config" that they came from, as far as they are known.
    report: What was converted; None for a checkpoint of this package.
  """

  variables: dict[str, Any]
  meta: dict[str, Any]
  report: Report | None = None


def make_encoder(layout: Layout, found: Mapping[str, np.ndarray], theirs: Mapping[str, str],
                 others: Iterable[str], where: str, **options) -> Encoder:
  """An encoder of exactly these tensors.

  Args:
    layout: Where they were found.
    found: Our name of a tensor -> the array, kernels as [k,k,C,D].
    theirs: Our name -> its name in the file.
    others: The names of the file's other tensors.
    where: The file.
    **options: Of the model group; they win over what the shapes tell.

  Raises:
    UserError: A tensor is missing, of another shape, or not accounted for.
  """
  model = infer({name: array.shape for name, array in found.items()}, where) | options
  if model.get("stem") == "small":
    model["stem"] = layout.small_stem
  if layout.padding != "torch":
    model.setdefault("padding", layout.padding)
  expected = shapes(model)
  missing = sorted(expected.keys() - found.keys())
  wrong = [f"{theirs[name]} is {found[name].shape}, not {expected[name]}"
           for name in sorted(expected.keys() & found.keys())
           if found[name].shape != expected[name]]
  counted = re.compile(rf"(?:{layout.decoys})|.*num_batches_tracked")
  left_out = [name for name in others if counted.fullmatch(name)]
  left_over = sorted({theirs[name] for name in found.keys() - expected.keys()}
                     | {name for name in others if not counted.fullmatch(name)})
  if missing or wrong or left_over:
    matched = len(expected) - len(missing) - len(wrong)
    parts = [f"{where} looks like {layout.of}, {model['name']}, but {matched} of {len(expected)} "
             "tensors match"]
    parts += [f"{what} {len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
              for what, names in (("missing", missing), ("of another shape", wrong),
                                  ("left over", left_over)) if names]
    raise UserError("; ".join(parts) + "; give the file as it was published")
  arrays = {name: owned(found[name]) for name in expected}
  report = Report(f"{layout.name} ({layout.of})", len(arrays), _counts(left_out), sanity(arrays))
  meta = {"model": model, "preprocessing": preprocessing(layout, model.get("stem", "imagenet")),
          "method": layout.name, "step": 0, "config": dict(UNKNOWN)}
  return Encoder(variables_of(arrays), meta, report)


def owned(array: np.ndarray) -> np.ndarray:
  """The array as f32 in C order, and no view of a file.

  The file's pages may leave the memory again, so that there is one copy of the weights, not two.
  """
  base = array
  while hasattr(base, "base"):
    base = base.base
  base = base.obj if isinstance(base, memoryview) else base
  if not isinstance(base, mmap.mmap):
    return np.require(array, np.float32, "CA")
  copy = np.array(array, np.float32, order="C")
  if hasattr(base, "madvise"):  # not on Windows
    base.madvise(mmap.MADV_DONTNEED)
  return copy


def variables_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """The nested variables of a backbone, of tensors by name."""
  variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
  for name, array in arrays.items():
    *path, kind = name.split("/")
    owner = variables["batch_stats" if kind in STATISTICS else "params"]
    for part in path:
      owner = owner.setdefault(part, {})
    owner[kind] = array
  return variables


def arrays_of(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The reverse of `variables_of`."""
  found: dict[str, np.ndarray] = {}

  def walk(tree, path):
    for name, value in tree.items():
      if isinstance(value, Mapping):
        walk(value, (*path, name))
      else:
        found["/".join((*path, name))] = np.asarray(value)

  for kind in ("params", "batch_stats"):
    walk(variables.get(kind, {}), ())
  return found


def sanity(arrays: Mapping[str, np.ndarray]) -> str:
  """How weights differ from a random encoder's, whose norms all have the same first values.

  A file of a run's first step, or of a network that was never loaded into, shows here.
  """
  blank = {"scale": 1, "bias": 0, "mean": 0, "var": 1}
  norms = sorted({name.rpartition("/")[0] for name in arrays if name.endswith("/scale")})
  moved = sum(any((arrays[f"{norm}/{kind}"] != blank[kind]).any() for kind in NORM)
              for norm in norms)
  line = f"{moved} of {len(norms)} norms differ from a random encoder's"
  return line if moved > len(norms) / 2 else line + ": these weights look untrained"


def _counts(names: Iterable[str]) -> dict[str, int]:
  counts: dict[str, int] = {}
  for name in names:
    if name.endswith("num_batches_tracked"):
      continue
    parts = [p for p in re.split(r"[./]", name) if p not in ("module", "~")]
    head = ".".join(parts[:2]) if parts[0].startswith(("encoder", "base_encoder", "backbone")) \
        and len(parts) > 1 else parts[0]
    counts[head] = counts.get(head, 0) + 1
  return counts
