"""What a set of images looks like before anything is trained on it."""

import collections
import dataclasses
import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from scipy.sparse.csgraph import connected_components

from ssl_jax.data.decoding import UnreadableError, decode
from ssl_jax.data.loading import cpu_count
from ssl_jax.data.source import Source

_HASH = 8  # side of the difference hash: 64 bits
_ALIKE = 4  # bits in which the hashes of images that look alike differ at most


@dataclasses.dataclass(frozen=True)
class Survey:
  """Figures of the images that were looked at.

  Attributes:
    looked: Their indices in the source, i64[n].
    size: i32[n,2], (height, width), upright.
    label: i32[n], -1 where there is none.
    grey: bool[n], whether all channels are equal.
    mean: f64[3], of pixels in [0, 1], each image weighing the same.
    std: f64[3], over all pixels, each image weighing the same.
    unreadable: Name -> why.
    duplicates: Groups of indices whose pixels are equal.
    similar: Groups of indices that look alike: difference hashes that hardly differ, pixels not
      all equal.
  """

  looked: np.ndarray
  size: np.ndarray
  label: np.ndarray
  grey: np.ndarray
  mean: np.ndarray
  std: np.ndarray
  unreadable: dict[str, str]
  duplicates: list[list[int]]
  similar: list[list[int]]


def survey(source: Source, limit: int = 2000, num_threads: int | None = None) -> Survey:
  """Decodes at most `limit` images, spread evenly over the source, and counts.

  Args:
    source: The images.
    limit: How many are decoded; all of a smaller set.
    num_threads: By default one per core.
  """
  chosen = np.unique(np.linspace(0, len(source) - 1, min(limit, len(source))).astype(np.int64))
  with ThreadPoolExecutor(num_threads or cpu_count()) as pool:
    seen = list(pool.map(lambda index: _look(source, int(index)), chosen))
  unreadable = {source.records.name(int(i)): s for i, s in zip(chosen, seen) if isinstance(s, str)}
  good = [(int(i), s) for i, s in zip(chosen, seen) if not isinstance(s, str)]
  moments = np.array([s["moments"] for _, s in good]).reshape(-1, 2, 3).mean(0) if good else (
      np.zeros((2, 3)))
  exact = _groups((s["digest"], i) for i, s in good)
  first = {i for group in exact for i in group[1:]}
  alike = _components([(s["hash"], i) for i, s in good if s["hash"] is not None and i not in first])
  return Survey(
      looked=np.array([i for i, _ in good], np.int64),
      size=np.array([s["size"] for _, s in good], np.int32).reshape(-1, 2),
      label=np.array([s["label"] for _, s in good], np.int32),
      grey=np.array([s["grey"] for _, s in good], bool),
      mean=moments[0], std=np.sqrt(np.maximum(moments[1] - moments[0] ** 2, 0)),
      unreadable=unreadable, duplicates=exact, similar=alike)


def _look(source: Source, index: int) -> dict | str:
  try:
    record = source.records[index]
    pixels = decode(record["image"])
  except (UnreadableError, OSError, ValueError, RuntimeError) as error:
    return " ".join(str(error).split())
  scaled = pixels.reshape(-1, 3) / 255
  return {"size": pixels.shape[:2], "label": record["label"],
          "grey": bool((pixels == pixels[..., :1]).all()),
          "moments": (scaled.mean(0), (scaled ** 2).mean(0)),
          "digest": hashlib.blake2b(np.ascontiguousarray(pixels).tobytes()
                                    + repr(pixels.shape).encode(), digest_size=16).digest(),
          "hash": difference_hash(pixels)}


def difference_hash(pixels: np.ndarray) -> np.ndarray | None:
  """Which of neighbouring cells of a 9 x 8 thumbnail is brighter: bool[64], None if all are even.

  Nearly equal for an image and its rescaled or recompressed copies (Krawetz, "Kind of like that",
  2013).
  """
  grey = Image.fromarray(pixels).convert("L")
  small = np.asarray(grey.resize((_HASH + 1, _HASH), Image.Resampling.BOX), np.int16)
  return (small[:, 1:] > small[:, :-1]).ravel() if small.max() - small.min() > 8 else None


def _groups(pairs) -> list[list[int]]:
  found = collections.defaultdict(list)
  for value, index in pairs:
    found[value].append(index)
  return [group for group in found.values() if len(group) > 1]


def _components(pairs) -> list[list[int]]:
  """Groups that are connected by hashes `_ALIKE` bits apart or nearer."""
  if not pairs:
    return []
  signs = np.array([np.where(bits, 1, -1) for bits, _ in pairs], np.float32)
  near = signs @ signs.T >= _HASH**2 - 2 * _ALIKE
  _, component = connected_components(near)
  return _groups((which, index) for which, (_, index) in zip(component, pairs))
