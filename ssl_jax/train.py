"""The pretraining loop: data -> step -> log -> checkpoint -> evaluate."""

import signal
import threading
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ssl_jax import __version__, assess, build, data, describe
from ssl_jax.checkpoint import METRIC, Checkpoints, encoder_of, load_encoder
from ssl_jax.config import check_resumable, config_hash
from ssl_jax.errors import UserError
from ssl_jax.logbook import Logbook, write_json
from ssl_jax.sharding import global_batch, make_mesh, over_batch, replicate, replicated
from ssl_jax.step import init_state, train_step
from ssl_jax.types import TrainState

PROFILED = (10, 15)  # the steps of which --config.profile writes a trace


def run(config: Mapping[str, Any], workdir: str, dry_run: bool = False) -> None:
  """Pretrains as the config says, resuming if the workdir holds a checkpoint of the same config.

  Raises:
    UserError: For whatever the user can mend, before anything is written.
  """
  source = open_split(config, "train_split")
  check_workdir(config, workdir)
  parts = build.parts(config, source)
  mesh = make_mesh()
  check_divisible(config["batch_size"], mesh.size)
  resident = lives_on_device(config, source, parts.canvas)
  with data.pipeline(
      source, batch_size=config["batch_size"] // jax.process_count(), canvas=parts.canvas,
      seed=config["seed"], process_index=jax.process_index(), process_count=jax.process_count(),
      num_threads=config["loader_threads"] or None, num_workers=config["loader_workers"],
      resident=resident) as batches:
    store = replicate(mesh, data.load_all(source, parts.canvas)) if resident else {}
    step = make_step(parts, mesh)
    state = first_state(config, parts, mesh, batches_like(config, parts.canvas))
    compiled = None
    if dry_run:
      compiled = compile_step(step, state, mesh, config, parts.canvas, resident, store)
    for line in describe.start(config, parts, mesh, source, resident, state, compiled):
      print(line, flush=True) if jax.process_index() == 0 else None
    if dry_run:
      return
    loop(config, workdir, source, parts, mesh, batches, store, step, state)


def loop(config, workdir, source, parts, mesh, batches, store, step, state) -> None:
  """Steps from where the workdir stands to the end of the run, and evaluates."""
  first = jax.process_index() == 0
  epath.Path(workdir).mkdir(parents=True, exist_ok=True)
  if first:
    write_json(epath.Path(workdir) / "config.json", dict(config))
  checkpoints = Checkpoints(workdir, config["keep"])
  try:
    if checkpoints.latest() is not None:
      state, position = checkpoints.restore(state)
      batches.set_state(position)
    start, total = int(state.step), parts.total_steps
    every = {name: build.duration(name, config, len(source), config["batch_size"], total)
             for name in ("eval_every", "checkpoint_every")}
    examine = online_evaluation(config, parts, mesh, source)
    stop = stop_signal()
    with Logbook(workdir, total_steps=total, batch_size=config["batch_size"], first_step=start,
                 tensorboard=config["tensorboard"], active=first) as log:
      if start:
        log.say(f"resumed {workdir} at step {start} of {total}")
      saved_at = start
      for done in range(start + 1, total + 1):
        profile(config, workdir, done - 1 - start)
        state, metrics = step(state, global_batch(mesh, next(batches)), store)
        log.advance(done)
        if done % config["log_every_steps"] == 0 or done == total:
          values = {name: float(value) for name, value in metrics.items()}
          values["learning_rate"] = float(parts.learning_rate(done - 1))
          log.row(done, values, batches.data_wait())
          for line in [*source.skipped.news(), *describe.alarms(values, parts)]:
            log.say(line)
        last = done == total or stop.is_set()
        scores = None
        if every["eval_every"] and (done % every["eval_every"] == 0 or done == total):
          scores = examine(state)
          log.write(done, scores)
          log.say(f"step {done}/{total}  " + "  ".join(f"{k} {v:.2f}" for k, v in scores.items()))
          log.pause()
        due = every["checkpoint_every"] and done % every["checkpoint_every"] == 0
        if due or last or (scores and METRIC in scores):
          checkpoints.save(state, batches.get_state(), parts.meta | {"config": dict(config)},
                           scores if scores and METRIC in scores else None)
          saved_at = done
        if stop.is_set() and done < total:
          checkpoints.close()
          log.say(f"stopped by a signal; step {saved_at} is saved: run the same command to go on")
          return
  finally:
    checkpoints.close()
  finish(config, workdir, source, parts, mesh, state)


def finish(config, workdir, source, parts, mesh, state) -> None:
  """The evaluation at the end of a run, its results.json, and what to do next."""
  frozen = build.Encoder(parts.method.network.backbone, encoder_of(state),
                         parts.meta["preprocessing"])
  results = {"method": config["method"]["name"], "seed": config["seed"],
             "steps": parts.total_steps, "data": config["data"],
             "config_hash": config_hash(dict(config)), "devices": describe.devices(mesh),
             "versions": {"ssl_jax": __version__, "jax": jax.__version__}}
  if config["evaluate"]["final"] and source.class_names:
    test = open_split(config, "test_split")
    results |= assess.everything(frozen, source, test, config, mesh)
  if jax.process_index() == 0:
    write_json(epath.Path(workdir) / "results.json", results)
    describe.finish(workdir, results)


def open_split(config: Mapping[str, Any], which: str) -> data.Source:
  """The data of one of the config's splits."""
  return data.open_source(config["data"], config[which], data_dir=config["data_dir"] or None)


def check_workdir(config: Mapping[str, Any], workdir: str) -> None:
  """Refuses a folder that holds something else. Raises a UserError."""
  folder = epath.Path(workdir)
  if not folder.exists():
    return
  if not folder.is_dir():
    raise UserError(f"--workdir={workdir} is a file; name a folder")
  path = folder / "config.json"
  if path.exists():
    check_resumable(read_config(path), dict(config), workdir)
  elif any(folder.iterdir()):
    raise UserError(f"--workdir={workdir} is not empty and holds no config.json of a run; name a "
                    "new folder")


def read_config(path: epath.Path) -> dict[str, Any]:
  """A workdir's config.json."""
  import json
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise UserError(f"{path} is damaged ({error}); name another --workdir") from error


def check_divisible(batch_size: int, devices: int) -> None:
  """Raises a UserError unless every device gets as many images."""
  if batch_size % devices:
    raise UserError(f"config.batch_size is {batch_size}, not a multiple of the {devices} devices; "
                    f"use {max(batch_size // devices, 1) * devices}")


def lives_on_device(config: Mapping[str, Any], source: data.Source, canvas: int) -> bool:
  """Whether the decoded images are kept on the device."""
  if config["resident"] == "auto":
    return data.resident_bytes(source, canvas) <= config["resident_limit_mb"] * 2**20
  return config["resident"] == "yes"


def batches_like(config: Mapping[str, Any], canvas: int) -> dict[str, jax.ShapeDtypeStruct]:
  """The shapes of a global batch as the step's method sees it."""
  count = config["batch_size"]
  return {"image": jax.ShapeDtypeStruct((count, canvas, canvas, 3), jnp.uint8),
          "size": jax.ShapeDtypeStruct((count, 2), jnp.int32),
          "label": jax.ShapeDtypeStruct((count,), jnp.int32),
          "index": jax.ShapeDtypeStruct((count,), jnp.int32)}


def make_step(parts: build.Parts, mesh):
  """The compiled step `(state, batch, store) -> (state, metrics)`.

  `store` holds a resident set, of which the batch names the indices, or is empty.
  """
  pure = train_step(parts.method, parts.optimizer, parts.monitor)

  def step(state: TrainState, batch, store):
    fetched = {name: jax.lax.with_sharding_constraint(values[batch["index"]], over_batch(mesh))
               for name, values in store.items()}
    return pure(state, batch | fetched)

  return jax.jit(step, donate_argnums=0, out_shardings=replicated(mesh))


def first_state(config, parts: build.Parts, mesh, like) -> TrainState:
  """The state at step 0, from random weights or from the encoder that `config.init` names."""
  make = jax.jit(
      lambda key: init_state(parts.method, parts.optimizer, like, key, parts.monitor),
      out_shardings=replicated(mesh))
  state = make(jax.random.key(config["seed"]))
  return adopt(state, config["init"], parts) if config["init"] else state


def adopt(state: TrainState, workdir: str, parts: build.Parts) -> TrainState:
  """Puts the encoder of another run in the place of the random one, in the target too."""
  saved = load_encoder(workdir)
  theirs, ours = saved.variables, encoder_of(state)
  describe.check_same_tree(theirs, ours, workdir)

  def put(params, variables):
    placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), variables,
                          params["backbone"])
    return params | {"backbone": placed}

  def both(params, stats):
    return put(params, theirs["params"]), put(stats, theirs["batch_stats"])

  params, stats = both(state.params, state.stats)
  state = state._replace(params=params, stats=stats)
  if parts.method.target:
    target, target_stats = both(state.target_params, state.target_stats)
    # A copy: the online network's buffers are donated with the state.
    target, target_stats = jax.tree.map(jnp.copy, (target, target_stats))
    state = state._replace(target_params=target, target_stats=target_stats)
  return state


def compile_step(step, state, mesh, config, canvas, resident, store):
  """Compiles the step for the shapes of the run without running it."""
  like = batches_like(config, canvas)
  if resident:
    like = {"index": like["index"]}
  like = {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=over_batch(mesh))
          for k, v in like.items()}
  return step.lower(state, like, store).compile()


def online_evaluation(config, parts: build.Parts, mesh, source: data.Source):
  """Returns `examine(state) -> scores`, on at most `evaluate.online_images` of each split."""
  if not source.class_names:
    return lambda state: {}
  sets = [assess.sample(s, config["evaluate"]["online_images"], config["seed"])
          for s in (source, open_split(config, "test_split"))]
  backbone, preprocessing = parts.method.network.backbone, parts.meta["preprocessing"]

  def examine(state: TrainState) -> dict[str, float]:
    frozen = build.Encoder(backbone, encoder_of(state), preprocessing)
    return assess.online(frozen, *sets, config, mesh)

  return examine


def stop_signal() -> threading.Event:
  """An event that SIGTERM sets, where signals can be caught."""
  event = threading.Event()
  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, lambda *_: event.set())
  return event


def profile(config: Mapping[str, Any], workdir: str, steps_run: int) -> None:
  """Starts and ends the trace of `--config.profile`."""
  if config["profile"] and steps_run == PROFILED[0]:
    jax.profiler.start_trace(str(epath.Path(workdir) / "profile"))
  if config["profile"] and steps_run == PROFILED[1]:
    jax.profiler.stop_trace()


__all__ = ["np", "run"]
