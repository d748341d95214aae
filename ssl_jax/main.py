"""`python -m ssl_jax.main --config configs/X.py [--workdir DIR] [--config.key=value]`.

`ssl-jax --config X` is the same command.
"""

import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from ssl_jax.config_files import locate
from ssl_jax.errors import UserError, exiting

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "What to run: a file of configs/, or its name.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where checkpoints and results go; the same again resumes. Default: "
    "runs/<name of the config>.")
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Check, shard, compile; print parameters, FLOPs and memory; train nothing.")
PREVIEW = flags.DEFINE_string(
    "preview", None, "Draw the views of some images into this .png file; train nothing.")
PLAN = flags.DEFINE_string(
    "plan", None, "TPU slices such as v5e-256,v5p:4x4x8: what the run takes there; train nothing.")
PLAN_JSON = flags.DEFINE_string("plan_json", None, "A file to write the plans to, with --plan.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0, for many hosts.")
PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes, with --coordinator.")
PROCESS = flags.DEFINE_integer("process", None, "Number of this process, with --coordinator.")


def config_argument(argv: list[str]) -> str:
  """The file that --config names, without what follows a colon; "" if there is none."""
  for this, following in zip(argv, [*argv[1:], ""]):
    name, equals, value = this.lstrip("-").partition("=")
    if this.startswith("-") and name == "config":
      return (value if equals else following).partition(":")[0]
  return ""


def at(file: pathlib.Path, argv: list[str]) -> list[str]:
  """The arguments, with a path where --config gives a name; what follows a colon stays."""
  found, follows = [], False
  for this in argv:
    name, equals, value = this.partition("=")
    is_config = this.startswith("-") and name.lstrip("-") == "config"
    if (is_config and equals) or follows:
      colon = (value if is_config else this).partition(":")[1:]
      this = (name + equals if is_config else "") + str(file) + "".join(colon)
    found.append(this)
    follows = is_config and not equals
  return found


def parse(argv: list[str]):
  """Parses the flags and loads the config; returns it with the names that the flags set in it.

  Raises:
    UserError: A flag, the file or a field of it is not right.
  """
  path = config_argument(argv)
  if not path:
    raise UserError("--config is missing; try --config configs/quickstart.py")
  file, root = locate(path)
  sys.path.append(str(root))  # config files import each other as `configs.x`
  try:
    rest = flags.FLAGS(at(file, argv))
    config = CONFIG.value
  except AttributeError as error:  # a field that the config does not have
    name, *hint = str(error.args[0]).strip("'\"").replace("'", "").replace("\\n", "\n").split("\n")
    raise UserError(f"{path} has no field {name!r} where a flag sets one"
                    + (f"; {hint[0]}" if hint else "")) from error
  except Exception as error:  # the file is the user's program: it may raise anything
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    raise UserError(lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}") from error
  if len(rest) > 1:
    raise UserError(f"argument {rest[1]!r} is not understood; write --config.key=value")
  return config, tuple(config_flags.get_override_values(flags.FLAGS["config"]))


def run(argv: list[str]) -> None:
  """Checks the config, then runs its task."""
  from ssl_jax import config as checks  # after the flags, so that --help does not wait for jax

  config = checks.resolve(*parse(argv))
  for flag in (PREVIEW, PLAN):
    if flag.value is not None and config["task"] != "pretrain":
      raise UserError(f"--{flag.name} is for a pretraining config, not for task "
                      f"{config['task']!r}; leave it out")
  import jax

  if COORDINATOR.value is not None:
    jax.distributed.initialize(COORDINATOR.value, PROCESSES.value, PROCESS.value)
  cache = pathlib.Path.home() / ".cache" / "ssl_jax" / "xla"
  jax.config.update("jax_compilation_cache_dir",
                    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(cache)))
  if config["task"] == "pretrain":
    stem = pathlib.Path(config_argument(argv)).stem
    pretrain(config, WORKDIR.value or os.path.join("runs", stem))
  else:
    evaluate(config, WORKDIR.value)


def pretrain(config: dict, workdir: str) -> None:
  """Trains, or shows what would be trained: its views, or its cost on a pod."""
  import jax

  from ssl_jax import choose, plan, preview, train
  if config["choose"]:
    config, reasons = choose.settle(config, workdir)
    for reason in reasons if jax.process_index() == 0 else ():
      print(f"chosen: {reason}", flush=True)
  if PLAN.value is not None:
    plan.run(config, PLAN.value, PLAN_JSON.value)
  elif PREVIEW.value is not None:
    preview.run(config, PREVIEW.value)
  else:
    train.run(config, workdir, dry_run=DRY_RUN.value)


def evaluate(config: dict, workdir: str | None) -> None:
  """Judges an encoder."""
  from ssl_jax import assess, suite
  if config["task"] == "suite":
    workdir = workdir or str(assess.home_of(config["init"]) / "suite")
    suite.run(config, workdir)
    if config["report"]:
      from ssl_jax import report  # draws: matplotlib is not needed before
      page, _ = report.write_report([workdir], os.path.join(workdir, "report.html"),
                                    data_dir=config["data_dir"] or None)
      print(f"report: {page}")
  elif config["task"] == "finetune":
    suite.finetune(config, workdir)
  elif config["task"] == "analysis":
    from ssl_jax import analysis  # draws: matplotlib is not needed before
    assess.run(config, workdir, analysis.analyse)
  else:
    assess.run(config, workdir)


def main() -> None:
  """The command: exit status 0, or 2 with one line for a mistake of the user's."""
  logging.set_verbosity(logging.ERROR)
  app.define_help_flags()
  if any(argument in ("--help", "-h", "-help", "--helpfull") for argument in sys.argv):
    flags.FLAGS(sys.argv)
  exiting(run, sys.argv)


if __name__ == "__main__":
  main()
