"""`python -m ssl_jax.report WORKDIR [WORKDIR ...] --out report.html`."""

import argparse
import sys

from ssl_jax.errors import exiting
from ssl_jax.report.page import write_report


def run(argv: list[str]) -> None:
  """Writes the page that the arguments ask for."""
  parser = argparse.ArgumentParser(
      "python -m ssl_jax.report", description="One page about encoders that the transfer suite has "
      "judged: tables, ranks, calibration, neighbours, worst errors.")
  parser.add_argument("workdirs", nargs="+", metavar="WORKDIR",
                      help="workdirs of the suite, and of fine-tuning")
  parser.add_argument("--out", default="report.html", help="the page; .md goes beside it")
  parser.add_argument("--sets", nargs="+", default=(), metavar="SET",
                      help="sets whose images are shown (default: the first two)")
  parser.add_argument("--data_dir", default=None, help="where tfds sets lie")
  parser.add_argument("--seed", type=int, default=0, help="draws the queries")
  args = parser.parse_args(argv)
  page, text = write_report(args.workdirs, args.out, sets=args.sets, data_dir=args.data_dir,
                            seed=args.seed)
  print(f"report: {page} ({page.stat().length / 2**20:.1f} MiB), {text}")


def main(argv: list[str] | None = None) -> None:
  """The command: exit status 0, or 2 with one line for a mistake of the user's."""
  exiting(run, argv or sys.argv[1:])


if __name__ == "__main__":
  main()
