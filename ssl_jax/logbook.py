"""What a run leaves to read: metrics.jsonl, TensorBoard, results.json and lines on the console."""

import json
import os
import time
from typing import Any

from etils import epath
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

METRICS = "metrics.jsonl"


def write_json(path: epath.Path, value: Any) -> None:
  """Writes a JSON file so that a reader finds the old one or the new one, never a part."""
  temporary = path.parent / f".{path.name}.tmp{os.getpid()}"
  temporary.write_text(json.dumps(value, indent=2) + "\n")
  temporary.replace(path)


class Logbook:
  """Writes a run's metrics and shows its progress.

  A context manager. Only the first process of a run writes; the others stay silent.

  Args:
    workdir: Where the files go.
    total_steps: The length of the run, for the progress bar.
    batch_size: Images per step, for images per second.
    first_step: The step from which the run goes on; rows after it are of a run that was
      interrupted, and are dropped.
    tensorboard: Whether to write TensorBoard's files too.
    active: Whether this process writes.
  """

  def __init__(self, workdir: str, *, total_steps: int, batch_size: int, first_step: int = 0,
               tensorboard: bool = True, active: bool = True):
    self.total_steps, self.batch_size = total_steps, batch_size
    self.active = active
    self.console = Console(quiet=not active, highlight=False, soft_wrap=True)
    self._last = (time.perf_counter(), first_step)
    self._file = self._board = None
    if active:
      path = epath.Path(workdir) / METRICS
      _forget_after(path, first_step)
      self._file = path.open("a")
      if tensorboard and "://" not in str(workdir):
        self._board = SummaryWriter(str(epath.Path(workdir) / "tensorboard"))
    self._progress = Progress(
        TextColumn("train"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[news]}"),
        TextColumn("ETA"), TimeRemainingColumn(), console=self.console,
        disable=not (active and self.console.is_terminal))
    self._task = self._progress.add_task(
        "", total=total_steps, completed=first_step, news="compiling")

  def __enter__(self) -> "Logbook":
    self._progress.start()
    return self

  def __exit__(self, *exc_info) -> None:
    self._progress.stop()
    for file in (self._file, self._board):
      if file is not None:
        file.close()

  def say(self, line: str) -> None:
    """Prints a line above the progress bar."""
    self.console.print(line, markup=False)

  def advance(self, step: int) -> None:
    """Moves the progress bar."""
    self._progress.update(self._task, completed=step)

  def row(self, step: int, metrics: dict[str, float], data_wait: float) -> dict[str, float]:
    """Adds a row of training metrics, with the speed since the last one.

    Args:
      step: Steps done.
      metrics: Numbers by name.
      data_wait: Seconds spent waiting for batches since the last row.

    Returns:
      The metrics with `images_per_second` and `data_wait_percent`.
    """
    now, (then, before) = time.perf_counter(), self._last
    self._last = (now, step)
    seconds = max(now - then, 1e-9)
    speed = (step - before) * self.batch_size / seconds
    metrics = metrics | {"images_per_second": round(speed, 1),
                         "data_wait_percent": round(100 * data_wait / seconds, 2)}
    self.write(step, metrics)
    self._progress.update(self._task, completed=step,
                          news=f"{speed:.0f} images/s  loss {metrics['loss']:.3f}")
    if not self.console.is_terminal:
      left = (self.total_steps - step) * self.batch_size / max(speed, 1e-9)
      self.say(f"step {step}/{self.total_steps}  loss {metrics['loss']:.4f}  "
               f"{speed:.0f} images/s  ETA {left:.0f} s")
    return metrics

  def write(self, step: int, metrics: dict[str, float]) -> None:
    """Adds a row to metrics.jsonl and to TensorBoard, and nothing to the console."""
    if not self.active:
      return
    self._file.write(json.dumps({"step": step} | metrics) + "\n")
    self._file.flush()
    if self._board is not None:
      for name, value in metrics.items():
        self._board.add_scalar(name, value, step)

  def score(self, step: int, scores: dict[str, float]) -> None:
    """Adds a row of evaluation, and a line; the time it took does not count as training."""
    if scores:
      self.write(step, scores)
      self.say(f"step {step}/{self.total_steps}  "
               + "  ".join(f"{name} {value:.2f}" for name, value in scores.items()))
    self._last = (time.perf_counter(), step)


def _forget_after(path: epath.Path, step: int) -> None:
  """Drops the rows after `step`, and a last line that was cut short."""
  if not path.exists():
    return
  kept = []
  for line in path.read_text().splitlines():
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      break
    if row["step"] <= step:
      kept.append(line)
  temporary = path.parent / f".{path.name}.tmp{os.getpid()}"
  temporary.write_text("".join(line + "\n" for line in kept))
  temporary.replace(path)
