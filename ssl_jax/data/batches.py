"""Host batches for training, without end, and one ordered pass for evaluation.

Batch t of a run is a function of the seed, t and the global batch size, and of nothing else: not of
threads, workers, or how many processes share the batch. So the position of a run is one number.
Grain's MapDataset over t does the rest: threads, worker processes, prefetching.
"""

import functools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grain
import numpy as np
from absl import flags

from ssl_jax.data.loading import cpu_count, load
from ssl_jax.data.source import Source
from ssl_jax.errors import UserError

_AHEAD = 2  # batches that are ready or being made while a step runs
_STEPS = 2**31  # the length that Grain is told; no run is as long
_UNREADABLE = "unreadable"


def pipeline(source: Source, *, batch_size: int, canvas: int, seed: int, process_index: int = 0,
             process_count: int = 1, num_threads: int | None = None, num_workers: int = 0,
             resident: bool = False) -> "Pipeline":
  """Opens an endless, shuffled stream of batches.

  Every epoch is a new permutation of the images, of which the last, incomplete global batch is
  dropped. Process p of P takes rows p*b to (p+1)*b of each global batch.

  Args:
    source: The images.
    batch_size: Images per batch of this process, b.
    canvas: The side S of the square that images are squashed onto.
    seed: Decides the order.
    process_index: p.
    process_count: P.
    num_threads: Threads that decode, in each worker if there are workers; by default one per core.
    num_workers: Worker processes; 0 decodes in this process, which is as fast on a few cores. They
      are spawned, so a script that asks for them must stand under `if __name__ == "__main__":`.
    resident: The set lives on the device: yield indices and decode nothing.

  Raises:
    UserError: There are fewer images than a global batch, or a count makes no sense.
  """
  for name, value, least in (("batch_size", batch_size, 1), ("process_count", process_count, 1),
                             ("num_workers", num_workers, 0), ("seed", seed, 0)):
    if value < least:
      raise UserError(f"{name} is {value}, must be at least {least}")
  if not 0 <= process_index < process_count:
    raise UserError(f"process_index is {process_index}, must be from 0 to {process_count - 1}")
  global_batch = batch_size * process_count
  if global_batch > len(source):
    raise UserError(f"{source.spec} {source.split} has {len(source)} images, fewer than a batch of "
                    f"{global_batch}; make the batch smaller or take more images")
  order = Order(len(source), batch_size, seed, process_index, process_count)
  return Pipeline(source, order, canvas, num_threads or cpu_count(), num_workers, resident)


class Order:
  """Which images make up a batch. Callable, picklable: `order(t)` is i32[b]."""

  def __init__(self, count: int, batch_size: int, seed: int, process_index: int = 0,
               process_count: int = 1):
    self.count = count
    self.batch_size = batch_size
    self.seed = seed
    self.process_index = process_index
    self.global_batch = batch_size * process_count
    self.steps_per_epoch = count // self.global_batch

  def __call__(self, step: int) -> np.ndarray:
    epoch, within = divmod(step, self.steps_per_epoch)
    first = within * self.global_batch + self.process_index * self.batch_size
    return _permutation(self.seed, epoch, self.count)[first:first + self.batch_size]


@functools.lru_cache(maxsize=4)  # batches of two epochs may be in the making at once
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
  return np.random.default_rng([seed, epoch]).permutation(count).astype(np.int32)


class _Batches:
  """The batches from `start` on, as the random-access source that Grain reads."""

  def __init__(self, order: Order, start: int, decode: "_Decode | None"):
    self.order = order
    self.start = start
    self.decode = decode

  def __len__(self) -> int:
    return _STEPS - self.start

  def __getitem__(self, position: int) -> dict:
    index = self.order(self.start + position)
    return {"index": index} if self.decode is None else self.decode(index)

  def __repr__(self) -> str:
    return f"batches from {self.start}"


class _Decode:
  """Index to batch. It makes its threads when first used, so it can travel to a worker process."""

  def __init__(self, source: Source, canvas: int, num_threads: int):
    self.records = source.records
    self.masked = source.masked
    self.patience = source.skipped.limit
    self.canvas = canvas
    self.num_threads = num_threads
    self.pool = None

  def __getstate__(self) -> dict:
    return self.__dict__ | {"pool": None}

  def __call__(self, index: np.ndarray) -> dict:
    if self.pool is None:
      self.pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="decode")
    images = load(self.records, index, self.canvas, self.pool, patience=self.patience,
                  masked=self.masked)
    return images.named("image", "size", "label", "index") | {
        _UNREADABLE: tuple(sorted(images.unreadable.items()))}

  def close(self) -> None:
    if self.pool is not None:
      self.pool.shutdown(cancel_futures=True)


class Pipeline:
  """An endless iterator over numpy batches; see `pipeline`. A context manager: it holds threads.

  A batch is {"image": u8[b,S,S,3], "size": i32[b,2], "label": i32[b], "index": i32[b]}, and
  "mask": u8[b,S,S] if the source is masked; or {"index": i32[b]} if the set lives on the device.
  Unreadable images are recorded in `source.skipped`.
  """

  def __init__(self, source: Source, order: Order, canvas: int, num_threads: int, num_workers: int,
               resident: bool):
    self.source = source
    self.steps_per_epoch = order.steps_per_epoch
    self._order = order
    self._decode = None if resident else _Decode(source, canvas, num_threads)
    self._num_workers = 0 if resident else num_workers
    self._step = 0
    self._batches = None
    self._waited = 0.0

  def __enter__(self) -> "Pipeline":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()

  def __iter__(self) -> "Pipeline":
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    started = time.perf_counter()
    if self._batches is None:
      self._batches = self._start()
    batch = next(self._batches)
    self._step += 1
    for name, reason in batch.pop(_UNREADABLE, ()):
      self.source.skipped.add(name, reason)
    if self._num_workers:
      # Grain's arrays lie in shared memory, and are torn down with noise if kept until the exit.
      batch = {key: np.array(array) for key, array in batch.items()}
    self._waited += time.perf_counter() - started
    return batch

  def _start(self) -> Iterator[dict]:
    batches = grain.MapDataset.source(_Batches(self._order, self._step, self._decode))
    if not self._num_workers:
      return iter(batches.to_iter_dataset(
          grain.ReadOptions(num_threads=1, prefetch_buffer_size=_AHEAD)))
    if not flags.FLAGS.is_parsed():  # Grain's workers read absl flags; a notebook parses none
      flags.FLAGS.mark_as_parsed()
    return iter(batches.to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)).mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=self._num_workers, per_worker_buffer_size=_AHEAD)))

  def data_wait(self) -> float:
    """Seconds spent waiting for batches since the last call."""
    waited, self._waited = self._waited, 0.0
    return waited

  def get_state(self) -> dict[str, int | str]:
    """The position, and what it is a position in. JSON can hold it."""
    return {"step": self._step, "global_batch": self._order.global_batch,
            "seed": self._order.seed, "data": self.source.fingerprint}

  def set_state(self, state: dict[str, int | str]) -> None:
    """Goes to a position.

    Threads, workers and processes may have become more or fewer, as long as the global batch is the
    same: the global batches that follow are the same.

    Raises:
      UserError: The state is of other images, another seed or another global batch.
    """
    here = self.get_state()
    for key in ("data", "seed", "global_batch"):
      if state.get(key) != here[key]:
        raise UserError(
            f"resume: {key} was {state.get(key)!r} and is now {here[key]!r}; set it as it was, or "
            "start a new workdir")
    self._stop()
    self._step = int(state["step"])

  def _stop(self) -> None:
    # Grain's workers leave noise at exit unless the iterator is both closed and dropped.
    if self._batches is not None:
      self._batches.close()
      self._batches = None

  def close(self) -> None:
    """Ends the threads and the workers."""
    self._stop()
    if self._decode is not None:
      self._decode.close()


def epoch(source: Source, *, batch_size: int, canvas: int, process_index: int = 0,
          process_count: int = 1,
          num_threads: int | None = None) -> Iterator[dict[str, np.ndarray]]:
  """One pass over a source in its order, for evaluation.

  Process p of P takes rows p*b to (p+1)*b of each global batch, as in `pipeline`. The last batch is
  padded to `batch_size`. An unreadable image is not replaced, as its neighbour would count twice,
  but marked as not valid; it is recorded in `source.skipped`.

  Yields:
    {"image": u8[b,S,S,3], "size": i32[b,2], "label": i32[b], "index": i32[b], "valid": bool[b]},
    and "mask": u8[b,S,S] if the source is masked; where valid is False the image is black, label
    and index are -1.
  """
  stride = batch_size * process_count
  with (ThreadPoolExecutor(num_threads or cpu_count()) as pool,
        ThreadPoolExecutor(1) as ahead):

    def batch(start: int):
      first = start + process_index * batch_size
      rows = range(first, min(first + batch_size, len(source)))
      return load(source.records, rows, canvas, pool, patience=0, masked=source.masked)

    coming = ahead.submit(batch, 0)
    for start in range(0, len(source), stride):
      images = coming.result()
      coming = ahead.submit(batch, start + stride)
      for name, reason in sorted(images.unreadable.items()):
        source.skipped.add(name, reason)
      yield _padded(images.named("image", "size", "label", "index")
                    | {"valid": images.index >= 0}, batch_size)


def _padded(batch: dict[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
  fill = {"image": 0, "mask": 0, "size": 1, "label": -1, "index": -1, "valid": False}
  missing = batch_size - len(batch["valid"])
  return {k: np.pad(v, [(0, missing)] + [(0, 0)] * (v.ndim - 1), constant_values=fill[k])
          for k, v in batch.items()} if missing else batch
