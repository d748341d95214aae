"""What a run would take of a TPU slice, found by compiling its step without one.

The compiler is libtpu's, which runs on any x86 Linux machine: pip install 'ssl_jax[tpu]'.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath
from rich.console import Console
from rich.table import Table

from ssl_jax.errors import UserError
from ssl_jax.logbook import write_json
from ssl_jax.plan import remedies, roofline
from ssl_jax.plan.chips import Slice, find_slice

Config = Mapping[str, Any]


def run(config: Config, names: str, path: str | None = None) -> list[dict[str, Any]]:
  """Plans a checked config on every slice of a comma-separated list, prints it, returns it.

  Args:
    config: A pretraining config.
    names: Such as "v5e-256,v5p:4x4x8".
    path: A JSON file to write.

  Raises:
    UserError: An unknown slice, a config that does not suit one, or no TPU compiler.
  """
  slices = [find_slice(name.strip()) for name in names.split(",")]
  check_compiler()
  console = Console(highlight=False, soft_wrap=True)
  plans = []
  for where in slices:
    plan = plan_for(config, where)
    for line in lines(plan):
      console.print(line)
    plans.append(plan)
    if path:
      write_json(epath.Path(path), plans)
  return plans


def plan_for(config: Config, where: Slice) -> dict[str, Any]:
  """One plan; if it does not fit, with what each remedy makes of it."""
  check_batch(config, where)
  answer = compile_for(config, where)
  if "figures" in answer:
    plan = roofline.summary(config, answer["figures"], where)
  else:
    plan = {"slice": where.name, "chips": where.chips, "topology": where.topology,
            "batch_size": config["batch_size"], "hbm_needed": answer["too_large"],
            "hbm_capacity": roofline.capacity(where), "fits": False}
  if not plan["fits"]:
    plan["remedies"] = list(tried(config, where))
  return plan


def tried(config: Config, where: Slice) -> Iterator[dict[str, Any]]:
  """Every remedy in its mildest form that fits, or its strongest."""
  for family in remedies.families(config, where.devices):
    for name, changed in family:
      answer = compile_for(changed, where)
      needed = (roofline.hbm(answer["figures"]) if "figures" in answer else answer["too_large"])
      fits = needed <= roofline.capacity(where)
      if fits or name == family[-1][0]:
        yield {"change": name, "hbm_needed": needed, "fits": fits}
        break


def check_compiler() -> None:
  """Raises a UserError where libtpu is missing."""
  probe = subprocess.run([sys.executable, "-c", "import libtpu"], capture_output=True, check=False)
  if probe.returncode:
    raise UserError("--plan needs the TPU compiler, and libtpu is not installed; run "
                    "`pip install 'ssl_jax[tpu]'` (Linux on x86-64; no TPU is needed)")


def check_batch(config: Config, where: Slice) -> None:
  """Raises a UserError unless every device of the slice gets as many images."""
  parts = config["batch_size"] // config["micro_batches"]
  if parts % where.devices:
    raise UserError(
        f"--plan={where.name}: {parts} images a pass (config.batch_size {config['batch_size']}) "
        f"are not a multiple of its {where.devices} devices; take a smaller slice")


def compile_for(config: Config, where: Slice) -> dict[str, Any]:
  """Compiles in a process of its own: {"figures": ..} or {"too_large": bytes}."""
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1",
                              "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}  # it touches no TPU
  environment.pop("XLA_FLAGS", None)  # those of this process's devices
  done = subprocess.run(
      [sys.executable, "-m", "ssl_jax.plan.program"], env=environment, text=True, check=False,
      input=json.dumps({"config": config, "slice": where.name}), capture_output=True)
  try:
    answer = json.loads(done.stdout)
  except ValueError:
    said = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing was said"]
    answer = {"error": said[-1][:300]}
  if "error" in answer:
    raise UserError(f"--plan={where.name}: {answer['error']}")
  return answer


def lines(plan: Mapping[str, Any]) -> Iterator[str | Table]:
  """A plan for people."""
  def mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
  needed, held = plan["hbm_needed"], plan["hbm_capacity"]
  yield ""
  yield (f"{plan['slice']}: {plan['chips']} chips, {plan['topology']}, batch {plan['batch_size']}")
  if "figures" in plan:
    f = plan["figures"]
    yield (f"memory per device: {mib(needed)} of {mib(held)}: parameters {mib(f['parameters'])}, "
           f"target {mib(f['target'])}, optimizer {mib(f['optimizer'])}, memory bank "
           f"{mib(f['memory_bank'])}, activations {mib(f['temporaries'])}; "
           f"{mib(held - needed)} to spare")
    yield (f"per step and device: {f['flops'] / 1e9:,.1f} GFLOP, {f['bytes'] / 1e9:,.2f} GB of "
           "memory traffic")
    table = Table("collective", "for", "count", "MiB per device")
    for c in f["collectives"]:
      table.add_row(c["kind"], c["purpose"], str(c["count"]), f"{c['size'] / 2**20:,.2f}")
    yield table
    ms = {name: 1e3 * seconds for name, seconds in plan["seconds"].items()}
    yield (f"a step takes at least {1e3 * plan['step_seconds']:.2f} ms, bound by {plan['bound']} "
           + f"({', '.join(f'{name} {value:.2f}' for name, value in ms.items())} ms)")
    yield (f"at most {plan['images_per_second']:,.0f} images/s: {plan['total_steps']:,} steps in "
           f"at least {plan['hours']:.1f} h, {plan['chip_hours']:,.0f} chip-hours")
    yield (f"the input must sustain {plan['images_per_second_per_host']:,.0f} images/s on each of "
           f"{plan['hosts']} hosts at that speed")
  if not plan["fits"]:
    yield f"does not fit: {mib(needed)} needed, {mib(held)} there"
    for r in plan["remedies"]:
      yield (f"  {r['change']}: {mib(r['hbm_needed'])}, "
             + ("fits" if r["fits"] else "does not fit"))
