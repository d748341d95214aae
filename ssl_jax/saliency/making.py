"""The masks of a whole source: over processes, and gone on with after an interruption."""

import contextlib
import functools
import hashlib
import importlib.metadata
import multiprocessing
import os
import pathlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import numpy as np

from ssl_jax import __version__
from ssl_jax.data import masks
from ssl_jax.data.decoding import UnreadableError, decode
from ssl_jax.data.records import Records
from ssl_jax.data.source import Source
from ssl_jax.errors import UserError, nearest
from ssl_jax.saliency import METHODS, Estimator, estimate_with

LEARNED = "learned"
# A process works on one image at a time; threads of its libraries would only wait for each other.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
               "NPROC": "1",  # which XLA reads
               "JAX_PLATFORMS": "cpu"}


class Recipe(NamedTuple):
  """How masks are made.

  Attributes:
    method: A name of `METHODS`, or "learned".
    size: The longer side worked at; None leaves it to the image. See `saliency.estimate`.
    weights: The file of a learned estimator.
  """

  method: str
  size: int | None = None
  weights: str | None = None

  def made(self) -> dict[str, Any]:
    """What decides the pixels of a mask: the network by its content, wherever it lies."""
    return {"method": self.method, "size": self.size,
            "weights": _digest(self.weights) if self.weights else None}

  def check(self) -> None:
    """Raises a UserError if there is no such method, or it lacks its file."""
    known = [*METHODS, LEARNED]
    if self.method not in known:
      raise UserError(f"saliency method {self.method!r} does not exist; "
                      f"{nearest(self.method, known)}")
    if (self.method == LEARNED) != (self.weights is not None):
      raise UserError(f"--method={self.method} --weights={self.weights}: weights are what "
                      f"--method={LEARNED} needs, and no other; train them with "
                      "`python -m ssl_jax.saliency.teach`")
    if self.weights and not pathlib.Path(self.weights).is_file():
      raise UserError(f"--weights={self.weights}: no such file; train one with "
                      "`python -m ssl_jax.saliency.teach`")

  def estimator(self) -> Estimator:
    """The function that makes them: u8[h,w,3] -> f[h,w] in [0, 1]."""
    if self.method != LEARNED:
      return METHODS[self.method]
    from ssl_jax.saliency import learned  # the one estimator that needs jax
    return learned.load(self.weights)


def to_mask(image: np.ndarray, estimator: Estimator, size: int | None) -> np.ndarray:
  """The saliency of an image u8[H,W,3] as a mask u8[H,W]."""
  return np.rint(255 * estimate_with(estimator, image, size)).astype(np.uint8)


def make(source: Source, out: str | os.PathLike, recipe: Recipe, workers: int,
         advance: Callable[[int], None]) -> None:
  """Makes the masks that a folder still lacks.

  Args:
    source: The images; unreadable ones are recorded in `source.skipped`, their mask is one black
      pixel.
    out: The folder, see `ssl_jax.data.masks`.
    recipe: How.
    workers: Processes; 0 works in this one. They are spawned, so a script that asks for them must
      stand under `if __name__ == "__main__":`.
    advance: Called with the number of masks each time that some are done; at first with those that
      the folder had.

  Raises:
    UserError: The folder holds something else, too many images are unreadable, or a process died.
  """
  recipe.check()
  parts = masks.begin(out, source, recipe.made(), versions())
  missing = parts.missing()
  advance(len(source) - sum(len(parts.span(part)) for part in missing))
  for done, unreadable in _each(source, parts, missing, recipe, workers):
    for name, reason in unreadable.items():
      source.skipped.add(name, reason)
    advance(done)
  parts.tidy()


def versions() -> dict[str, str]:
  """Of what makes the masks."""
  return {"ssl_jax": __version__} | {
      name: importlib.metadata.version(name) for name in ("numpy", "scipy", "scikit-image")}


Done = tuple[int, dict[str, str]]  # how many masks, and what could not be read


def _each(source: Source, parts: masks.Parts, missing: list[int], recipe: Recipe,
          workers: int) -> Iterator[Done]:
  if not workers:
    make_one = functools.partial(_make_part, source.records, parts, recipe.estimator(), recipe.size)
    yield from map(make_one, missing)
    return
  with _environment(_ONE_THREAD), ProcessPoolExecutor(
      min(workers, len(missing)) or 1, mp_context=multiprocessing.get_context("spawn"),
      initializer=_start_worker, initargs=(source.records, parts, recipe)) as pool:
    try:
      for done in as_completed([pool.submit(_work, part) for part in missing]):
        yield done.result()
    except BrokenProcessPool as error:
      raise UserError("a process died, of want of memory perhaps; the same command goes on where "
                      f"it was, with fewer than --workers={workers}") from error
    finally:
      pool.shutdown(wait=False, cancel_futures=True)


def _make_part(records: Records, parts: masks.Parts, estimator: Estimator, size: int | None,
               part: int) -> Done:
  unreadable = {}

  def each() -> Iterator[np.ndarray]:
    for index in parts.span(part):
      try:
        image = decode(records[index]["image"])
      except (UnreadableError, OSError, ValueError, RuntimeError) as error:
        unreadable[records.name(index)] = " ".join(str(error).split())
        yield np.zeros((1, 1), np.uint8)
      else:
        yield to_mask(image, estimator, size)

  parts.write(part, each())
  return len(parts.span(part)), unreadable


def _start_worker(records: Records, parts: masks.Parts, recipe: Recipe) -> None:
  global _work_here
  threading.Thread(target=_end_with_parent, daemon=True).start()
  _work_here = functools.partial(_make_part, records, parts, recipe.estimator(), recipe.size)


def _work(part: int) -> Done:
  return _work_here(part)


def _end_with_parent() -> None:
  """Ends a worker whose parent was killed; it would wait for work for ever."""
  multiprocessing.parent_process().join()
  os._exit(1)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
  """Sets variables that are not set, for the processes that start meanwhile."""
  new = {name: value for name, value in values.items() if name not in os.environ}
  os.environ.update(new)
  try:
    yield
  finally:
    for name in new:
      del os.environ[name]


def _digest(file: str) -> str:
  return hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()[:16]
