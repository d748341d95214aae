"""The pretraining loop: data -> step -> log -> checkpoint -> evaluate."""

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils

from ssl_jax import assess, build, data, describe, program
from ssl_jax.checkpoint import METRIC, Checkpoints, encoder_of, saved_steps
from ssl_jax.config import check_resumable, config_hash
from ssl_jax.errors import UserError
from ssl_jax.logbook import Logbook, write_json
from ssl_jax.sharding import global_batch, make_mesh, replicate
from ssl_jax.types import TrainState

Config = Mapping[str, Any]
PROFILED = (10, 15)  # the steps after the start of which config.profile writes a trace


def run(config: Config, workdir: str, dry_run: bool = False) -> None:
  """Pretrains as a checked config says, going on from the workdir's last checkpoint.

  Raises:
    UserError: For whatever the user can mend; nothing is then written or overwritten.
  """
  config = program.own_model(config, workdir)
  source = build.open_split(config, "train_split")
  if source.class_names:
    build.open_split(config, "test_split")  # a wrong one is told now, not at the first evaluation
  shown = build.in_scenes(config, source)
  check_workdir(config, workdir)
  parts = build.parts(config, source)
  mesh = make_mesh(fsdp=config["mesh"]["fsdp"])
  check_divisible(config["batch_size"], config["micro_batches"], mesh.size)
  resident = lives_on_device(config, shown, parts.canvas)
  with data.pipeline(
      shown, batch_size=config["batch_size"] // jax.process_count(), canvas=parts.canvas,
      seed=config["seed"], process_index=jax.process_index(), process_count=jax.process_count(),
      num_threads=config["loader_threads"] or None, num_workers=config["loader_workers"],
      resident=resident) as batches:
    # A run that goes on has no need of the encoder that it once started from.
    origin = {"init": ""} if saved_steps(workdir) else {}
    state = program.first_state({**config, **origin}, parts, mesh, tell=on_first_host)
    store = replicate(mesh, data.load_all(shown, parts.canvas)) if resident else {}
    step = program.make_step(parts, mesh)
    compiled = program.compile_step(
        step, state, store, mesh, program.batch_shapes(
            config["batch_size"], parts.canvas, parts.masked)
    ) if dry_run else None
    for line in describe.start(config, parts, mesh, source, resident, state, compiled):
      on_first_host(line)
    if not dry_run:
      state = loop(config, workdir, source, parts, mesh, batches, store, step, state)
  if not dry_run and int(state.step) == parts.total_steps:
    finish(config, workdir, source, parts, mesh, state)


def on_first_host(line: str) -> None:
  """Prints a line once, however many processes run."""
  if jax.process_index() == 0:
    print(line, flush=True)


def loop(config: Config, workdir: str, source: data.Source, parts: build.Parts, mesh,
         batches: data.Pipeline, store, step, state: TrainState) -> TrainState:
  """Steps from where the workdir stands to the end of the run, or until SIGTERM."""
  total = parts.total_steps
  every = {name: build.duration(name, config, len(source), config["batch_size"], total)
           for name in ("eval_every", "checkpoint_every")}
  start_workdir(config, workdir)
  with Checkpoints(workdir, config["keep"]) as checkpoints:
    if checkpoints.latest() is not None:
      state, position = checkpoints.restore(state)
      batches.set_state(position)
    start = int(state.step)
    examine = online_evaluation(config, parts, source)
    alarms = describe.Alarms(parts.method.chance)
    with stop_signal() as asked_to_stop, Logbook(
        workdir, total_steps=total, batch_size=config["batch_size"], first_step=start,
        tensorboard=config["tensorboard"], active=jax.process_index() == 0) as log:
      if start:
        log.say(f"resumed {workdir} at step {start} of {total}")
      for done in range(start + 1, total + 1):
        profile(config, workdir, done - 1 - start)
        state, metrics = step(state, global_batch(mesh, next(batches)), store)
        log.advance(done)
        if done % config["log_every_steps"] == 0 or done == total:
          values = {name: float(value) for name, value in metrics.items()}
          values["learning_rate"] = float(parts.learning_rate(done - 1))
          values = log.row(done, values, batches.data_wait())
          for line in [*source.skipped.news(), *alarms(done, values)]:
            log.say(line)
        scores = {}
        # Not just before the end, which has an evaluation of its own.
        if is_due(done, every["eval_every"]) and total - done > every["eval_every"] // 2:
          scores = examine(state)
          log.score(done, scores)
        stop = asked_to_stop(done)
        if is_due(done, every["checkpoint_every"]) or scores or done == total or stop:
          checkpoints.save(state, batches.get_state(), parts.meta | {"config": dict(config)},
                           scores if METRIC in scores else None)
        if stop and done < total:
          log.say(f"stopped by a signal after step {done}; the same command goes on from there")
          break
  return state


def finish(config: Config, workdir: str, source: data.Source, parts: build.Parts, mesh,
           state: TrainState) -> None:
  """The evaluation at the end of a run, its results.json, and what to do next."""
  results = {"method": config["method"]["name"], "seed": config["seed"],
             "steps": parts.total_steps, "data": config["data"],
             "config_hash": config_hash(config), **describe.provenance(mesh)}
  if config["evaluate"]["final"] and source.class_names:
    results |= assess.final(parts.method.network.backbone, encoder_of(state),
                            parts.meta["preprocessing"], source,
                            build.open_split(config, "test_split"), config)
  if jax.process_index() == 0:
    write_json(epath.Path(workdir) / "results.json", results)
    describe.finish(workdir, results)


def online_evaluation(config: Config, parts: build.Parts, source: data.Source
                      ) -> Callable[[TrainState], dict[str, float]]:
  """Returns `examine(state) -> scores`, on at most `evaluate.online_images` of each split."""
  if not source.class_names:
    return lambda state: {}
  settings = config["evaluate"]
  train, test = (data.sample(s, settings["online_images"], config["seed"])
                 for s in (source, build.open_split(config, "test_split")))
  examiner = assess.Examiner(parts.method.network.backbone, parts.meta["preprocessing"],
                             settings["batch_size"])
  return lambda state: assess.online(examiner, encoder_of(state), train, test, settings)


def check_workdir(config: Config, workdir: str) -> None:
  """Refuses a folder that holds something else, or a run of another config.

  Raises:
    UserError: Says which.
  """
  folder = epath.Path(workdir)
  if not folder.exists():
    return
  if not folder.is_dir():
    raise UserError(f"--workdir={workdir} is a file; name a folder")
  path = folder / "config.json"
  if path.exists():
    try:
      before = json.loads(path.read_text())
    except ValueError as error:
      raise UserError(f"{path} is damaged ({error}); name another --workdir") from error
    check_resumable(before, config, workdir)
  elif any(folder.iterdir()):
    raise UserError(f"--workdir={workdir} is not empty and holds no config.json of a run; name a "
                    "new folder")


def start_workdir(config: Config, workdir: str) -> None:
  """Makes the folder and says in it what runs there."""
  if jax.process_index() == 0:
    folder = epath.Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)


def check_divisible(batch_size: int, micro_batches: int, devices: int) -> None:
  """Raises a UserError unless every device gets as many images."""
  if batch_size % devices:
    raise UserError(f"config.batch_size is {batch_size}, not a multiple of the {devices} devices; "
                    f"use {max(batch_size // devices, 1) * devices}")
  if batch_size // micro_batches % devices:
    raise UserError(f"config.micro_batches is {micro_batches}: parts of "
                    f"{batch_size // micro_batches} images are not a multiple of the {devices} "
                    "devices; take fewer parts")


def lives_on_device(config: Config, source: data.Source, canvas: int) -> bool:
  """Whether the decoded images are kept on the devices."""
  if config["resident"] == "auto":
    return data.resident_bytes(source, canvas) <= config["resident_limit_mb"] * 2**20
  return config["resident"] == "yes"


def is_due(step: int, every: int) -> bool:
  """Whether something that happens every so many steps does now; 0 is never."""
  return every > 0 and step % every == 0


@contextlib.contextmanager
def stop_signal() -> Iterator[Callable[[int], bool]]:
  """Gives `asked(step)`: whether SIGTERM came, to this or any other process of the run.

  Every process gets the same answer at a step, since all must take part in the last save.
  """
  if jax.process_count() > 1:
    # JAX's own handler has been listening since the processes met.
    yield multihost_utils.reached_preemption_sync_point
  elif threading.current_thread() is threading.main_thread():
    event = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
      yield lambda step: event.is_set()
    finally:
      signal.signal(signal.SIGTERM, before)
  else:  # only the main thread can catch signals
    yield lambda step: False


def profile(config: Config, workdir: str, steps_run: int) -> None:
  """Starts and ends the trace of `config.profile`."""
  if config["profile"] and steps_run == PROFILED[0]:
    jax.profiler.start_trace(str(epath.Path(workdir) / "profile"))
  if config["profile"] and steps_run == PROFILED[1]:
    jax.profiler.stop_trace()
