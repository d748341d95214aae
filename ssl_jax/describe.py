"""Lines for people: what a run will do, what looks wrong on the way, what came out."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jaxlib
from rich.console import Console
from rich.table import Table

from ssl_jax import __version__
from ssl_jax.data import Source

LOW_STD = 0.02  # of l2-normalised features times sqrt(F); 1 when they spread over the sphere
PINNED = 0.01  # share of the chance loss within which a loss has learnt nothing
PATIENCE = 100  # steps that a loss may be pinned
INPUT_BOUND = 10.0  # percent of the time spent waiting for batches


def devices(mesh) -> str:
  """Such as `8 x TPU v5e`."""
  return f"{mesh.size} x {mesh.devices.flat[0].device_kind}"


def provenance(mesh) -> dict[str, Any]:
  """What a figure depends on besides its config: hardware and versions."""
  return {"devices": devices(mesh), "versions": {
      "ssl_jax": __version__, "jax": jax.__version__, "jaxlib": jaxlib.__version__}}


def start(config: Mapping[str, Any], parts, mesh, source: Source, resident: bool, state,
          compiled=None) -> Iterator[str]:
  """What will happen: data, network, batch, negatives, learning rate, memory."""
  method, model = config["method"]["name"], parts.meta["model"]
  place = "on the device" if resident else "decoded by the host"
  scene = "" if config["scene"]["name"] == "none" else f", {config['scene']['name']}"
  epochs = parts.total_steps * config["batch_size"] / len(source)
  yield (f"{method} on {source.spec} {source.split}: {len(source):,} images of {parts.canvas} px, "
         f"{place}; views of {config['views']['size']} px ({config['views']['preset']}{scene})")
  yield (f"{model['name']}, {model['stem']} stem, BatchNorm {norm(model)}: "
         f"{count(state.params['backbone']):,} parameters, {count(state.params):,} with heads; "
         f"state {size(state) / 2**20:.0f} MiB per device")
  negatives = f"{parts.method.negatives:,} negatives per anchor" if parts.method.negatives else ""
  if negatives:
    negatives += (" in blocks, " if parts.method.in_blocks else ", ")
  micro = parts.micro.count
  batch = f"batch {config['batch_size']}" + (
      f" in {micro} micro-batches of {config['batch_size'] // micro} images" if micro > 1 else "")
  yield (f"{batch} over {devices(mesh)}, {negatives}{parts.total_steps:,} "
         f"steps = {epochs:.1f} epochs, learning rate {parts.peak:.4g} at its peak "
         f"({config['optimizer']['name']}, {config['schedule']['name']})")
  if compiled is not None:
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    yield (f"compiled step: {cost.get('flops', 0) / 1e9:,.1f} GFLOP per device, "
           f"{memory.temp_size_in_bytes / 2**20:,.0f} MiB of activations, "
           f"{memory.argument_size_in_bytes / 2**20:,.0f} MiB of arguments")


def norm(model: Mapping[str, Any]) -> str:
  group = model.get("norm_group")
  return f"in groups of {group} images" if group else "over the global batch"


def count(tree) -> int:
  """Numbers in a tree."""
  return sum(x.size for x in jax.tree.leaves(tree))


def size(tree) -> int:
  """Bytes of a tree on one device."""
  def shape(x):
    return x.sharding.shard_shape(x.shape) if getattr(x, "sharding", None) else x.shape
  return sum(math.prod(shape(x)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


class Alarms:
  """Warnings about rows of metrics, each said once.

  Args:
    chance: The loss of a network that knows nothing, or None.
  """

  def __init__(self, chance: float | None):
    self._chance = chance
    self._pinned_since = None
    self._said = set()

  def __call__(self, step: int, values: Mapping[str, float]) -> list[str]:
    """The lines that a row of metrics gives cause for and that were not said yet."""
    new = {kind: line for kind, line in self._causes(step, values) if kind not in self._said}
    self._said |= new.keys()
    return [f"warning: {line}" for line in new.values()]

  def _causes(self, step, values):
    if values["feature_std"] < LOW_STD:
      yield "collapse", (
          f"the features collapse (feature_std {values['feature_std']:.4f}, healthy near 1); lower "
          "the learning rate, or raise the target's decay or the batch")
    if values["skipped"]:
      yield "skipped", (
          f"{values['skipped']:.0f} updates were left out, their loss or gradients not finite; "
          "lower the learning rate or set config.optimizer.clip_norm")
    if values["data_wait_percent"] > INPUT_BOUND and step > 1:
      yield "input", (
          f"{values['data_wait_percent']:.0f} % of the time goes into waiting for images; set "
          "config.loader_workers, or config.resident=yes if they fit on the device")
    if not self._pinned(values["loss"]):
      self._pinned_since = None
    elif self._pinned_since is None:
      self._pinned_since = step
    elif step - self._pinned_since >= PATIENCE:
      yield "chance", (
          f"the loss has been that of chance ({self._chance:.3f}) for {step - self._pinned_since} "
          "steps: nothing is learnt; change the learning rate or the temperature")

  def _pinned(self, loss: float) -> bool:
    return self._chance is not None and abs(loss - self._chance) < PINNED * self._chance


def finish(workdir: str, results: Mapping[str, Any]) -> None:
  """The table of results, where they are, and what to run next."""
  console = Console(highlight=False, soft_wrap=True)
  if "linear" in results:
    table = Table(title="test accuracy, %")
    rows = {results["method"]: results, **results.get("baselines", {})}
    labels = {"knn": "k-NN", "linear": "linear", "few_label": "few labels"}
    labels = {figure: label for figure, label in labels.items() if figure in results}
    table.add_column("features")
    for label in labels.values():
      table.add_column(label, justify="right")
    for name, row in rows.items():
      spread = f" ± {row['few_label']['top1_std']:.1f}" if "few_label" in labels else ""
      *most, last = (f"{row[figure]['top1']:.1f}" for figure in labels)
      table.add_row(name.replace("_", " "), *most, last + spread)
    console.print(table)
  console.print(f"results: {workdir}/results.json   metrics: {workdir}/metrics.jsonl", markup=False)
  console.print(f"next: python -m ssl_jax.main --config configs/eval/linear.py "
                f"--config.init={workdir}", markup=False)
