"""What every paper's run takes of a TPU slice, as a table in docs/pods.md.

    nice python -m benchmarks.plan [NAME ...] [--slices v5e-256,v5p-64]   plans what is missing
    python -m benchmarks.plan --table                                     only writes the page

Without names, all of configs/*_imagenet.py; without slices, the v5e slice on which a chip has 16
images. Each plan takes the TPU's compiler (pip install 'ssl_jax[tpu]') some minutes of processor
time, and is kept in benchmarks/plans/; one whose config has changed since is made again.
"""

import argparse
import importlib
import json
import pathlib
from typing import Any

from ssl_jax import config as checks
from ssl_jax import plan
from ssl_jax.plan.chips import find_slice

ROOT = pathlib.Path(__file__).parent.parent
RECORDS = ROOT / "benchmarks" / "plans"
PAGE = ROOT / "docs" / "pods.md"
BEGIN, END = "<!-- plans -->", "<!-- end of plans -->"
IMAGES_A_CHIP = 16
HEADER = """| config | slice | batch | HBM, GiB | activations | step, ms, at least | bound by | \
images/s, at most | steps | hours, at least | host images/s |
|---|---|---:|---:|---:|---:|---|---:|---:|---:|---:|
"""


def names() -> list[str]:
  """The configs of papers."""
  return sorted(p.stem for p in (ROOT / "configs").glob("*_imagenet.py"))


def usual_slice(config: dict[str, Any]) -> str:
  """The v5e slice with IMAGES_A_CHIP images a chip, of at most a pod's 256 chips."""
  return f"v5e-{min(256, 2 ** ((config['batch_size'] // IMAGES_A_CHIP).bit_length() - 1))}"


def planned(name: str, slice_name: str | None = None) -> dict[str, Any]:
  """The plan of a config on a slice: the kept one, or a new one, which is then kept."""
  config = checks.resolve(importlib.import_module(f"configs.{name}").get_config())
  slice_name = slice_name or usual_slice(config)
  path = RECORDS / f"{name}-{slice_name.replace(':', '-')}.json"
  if path.exists():
    kept = json.loads(path.read_text())
    if checks.difference(kept["settings"], config) is None:
      return kept
  record = {"config": name, "settings": config, **plan.plan_for(config, find_slice(slice_name))}
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(record, indent=1) + "\n")
  return record


def row(record: dict[str, Any]) -> str:
  """A plan as a row of the page."""
  head = f"| {record['config']} | {record['slice']} | {record['batch_size']:,} "
  memory = f"| {record['hbm_needed'] / 2**30:.1f} of {record['hbm_capacity'] / 2**30:.0f} "
  if "figures" not in record:
    remedy = next((r["change"] for r in record["remedies"] if r["fits"]), "none that was tried")
    return f"{head}{memory}| does not fit; with `{remedy}` it does |" + " |" * 6
  return (f"{head}{memory}| {record['figures']['temporaries'] / 2**30:.1f} "
          f"| {1e3 * record['step_seconds']:.1f} | {record['bound']} "
          f"| {record['images_per_second']:,.0f} | {record['total_steps']:,} "
          f"| {record['hours']:.1f} | {record['images_per_second_per_host']:,.0f} |")


def write_page() -> None:
  """Puts all kept plans into the page."""
  records = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
  before, rest = PAGE.read_text().split(BEGIN)
  after = rest.split(END)[1]
  table = HEADER + "".join(row(record) + "\n" for record in records)
  missing = sorted(set(names()) - {record["config"] for record in records})
  if missing:
    table += f"\nNot planned yet: {', '.join(missing)}.\n"
  PAGE.write_text(f"{before}{BEGIN}\n{table}{END}{after}")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("names", nargs="*", help="configs, without configs/ and .py")
  parser.add_argument("--slices", help="such as v5e-256,v5p-64")
  parser.add_argument("--table", action="store_true", help="plan nothing, write the page")
  arguments = parser.parse_args()
  if not arguments.table:
    plan.check_compiler()
    for name in arguments.names or names():
      for slice_name in (arguments.slices or "").split(","):
        record = planned(name, slice_name or None)
        print(row(record), flush=True)
        write_page()
  write_page()


if __name__ == "__main__":
  main()
