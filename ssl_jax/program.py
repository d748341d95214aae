"""The compiled program of a run: its step and its first state, on a mesh."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh

from ssl_jax.build import Parts, backbone
from ssl_jax.checkpoint import encoder_of, load_encoder
from ssl_jax.errors import UserError
from ssl_jax.sharding import of_state, over_batch, replicated
from ssl_jax.step import init_state, train_step
from ssl_jax.types import Batch, Params, TrainState

# Attributes of a backbone that change its training and not what it computes in evaluation.
OF_TRAINING = ("kernel_init", "zero_init_last", "norm", "dtype", "remat", "parent", "name")


def batch_shapes(batch_size: int, canvas: int, masked: bool = False) -> Batch:
  """The shapes of a global batch as a method sees it."""
  mask = {"mask": jax.ShapeDtypeStruct((batch_size, canvas, canvas), jnp.uint8)} if masked else {}
  return {"image": jax.ShapeDtypeStruct((batch_size, canvas, canvas, 3), jnp.uint8),
          "size": jax.ShapeDtypeStruct((batch_size, 2), jnp.int32),
          "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
          "index": jax.ShapeDtypeStruct((batch_size,), jnp.int32)} | mask


def make_step(parts: Parts, mesh: Mesh):
  """The jitted step `(state, batch, store) -> (state, metrics)`; the old state is given up.

  `store` holds the images of a set that lives on the devices, of which the batch names the
  indices; it is empty when the batch brings its images.
  """
  pure = train_step(parts.method, parts.optimizer, parts.monitor, parts.micro)

  def step(state: TrainState, batch: Batch, store: Batch):
    fetched = {name: jax.lax.with_sharding_constraint(values[batch["index"]], over_batch(mesh))
               for name, values in store.items()}
    new, metrics = pure(state, batch | fetched)
    return jax.tree.map(jax.lax.with_sharding_constraint, new, of_state(mesh, new)), metrics

  return jax.jit(step, donate_argnums=0, out_shardings=(None, replicated(mesh)))


def own_model(config: Mapping[str, Any], workdir: str) -> dict[str, Any]:
  """The config with a model group of its own, where that is `config.init`'s: model.name = "init".

  It is that encoder's, but for `norm_group` and `dtype`, which are of training. A run that goes on
  keeps what its config.json says, and has no need of the encoder.

  Raises:
    UserError: There is no such encoder.
  """
  if config["model"]["name"] != "init":
    return dict(config)
  if not config["init"]:
    raise UserError("config.model.name is 'init', but config.init names no encoder; give one, or "
                    "name a network")
  before = epath.Path(workdir) / "config.json"
  try:
    model = json.loads(before.read_text())["model"] if before.exists() else (
        load_encoder(config["init"]).meta["model"])
  except (ValueError, KeyError) as error:
    raise UserError(f"{before} is damaged ({error}); name another --workdir") from error
  own = {k: v for k, v in config["model"].items() if k in ("norm_group", "dtype")}
  return dict(config) | {"model": dict(model) | own}


def first_state(config: Mapping[str, Any], parts: Parts, mesh: Mesh,
                tell: Callable[[str], None] = lambda line: None) -> TrainState:
  """The state at step 0: of random weights, or with the encoder that `config.init` names.

  Args:
    config: Checked; its seed, batch size and init.
    parts: Of the run.
    mesh: Where the state lives.
    tell: Is told what came of a foreign encoder's tensors.

  Raises:
    UserError: There is no such encoder, or it is of another architecture.
  """
  shapes = batch_shapes(config["batch_size"], parts.canvas, parts.masked)
  # It runs once: on a CPU, compiling it well takes six seconds longer than compiling it.
  on_cpu = mesh.devices.flat[0].platform == "cpu"
  # Made by one program, so that no two leaves share a buffer and all can be donated.
  def init(key):
    return init_state(parts.method, parts.optimizer, shapes, key, parts.monitor)
  key = jax.random.key(config["seed"])
  make = jax.jit(
      init, out_shardings=of_state(mesh, jax.eval_shape(init, key)),
      compiler_options={"xla_backend_optimization_level": 0} if on_cpu else None)
  if not config["init"]:
    return make(key)
  saved = load_encoder(config["init"])
  check_same_shapes(saved.variables, encoder_of(jax.eval_shape(make, key)), config["init"])
  check_same_network(saved.meta["model"], parts.meta["model"], config["init"])
  if saved.report:
    tell(f"{config['init']}: {saved.report}")
  return adopt(make(key), saved.variables)


def adopt(state: TrainState, saved: dict[str, Params]) -> TrainState:
  """Puts the encoder of another run in the place of the random one, in the target too."""
  def placed(tree, kind):
    # Fresh buffers each time: online and target network are donated apart.
    new = jax.tree.map(lambda x, old: jax.device_put(x, old.sharding), saved[kind],
                       tree["backbone"])
    return tree | {"backbone": jax.tree.map(jnp.copy, new)} if new else tree

  state = state._replace(params=placed(state.params, "params"),
                         stats=placed(state.stats, "batch_stats"))
  if not state.target_params:
    return state
  return state._replace(target_params=placed(state.target_params, "params"),
                        target_stats=placed(state.target_stats, "batch_stats"))


def check_same_shapes(theirs, ours, where: str) -> None:
  """Raises a UserError that counts and names what does not match between two trees of arrays."""
  def shapes(tree):
    return {jax.tree_util.keystr(path): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
  theirs, ours = shapes(theirs), shapes(ours)
  wrong = sorted(k for k in {*theirs, *ours} if theirs.get(k) != ours.get(k))
  if wrong:
    name = wrong[0]
    matched = len(ours.keys() - set(wrong))
    raise UserError(
        f"{where}: {matched} of {len(ours)} tensors of the encoder match; the first that does not "
        f"is {name}, {theirs.get(name, 'missing')} there and {ours.get(name, 'missing')} here; set "
        "config.model as that run did, or take its own: --config.model.name=init")


def check_same_network(theirs: Mapping[str, Any], ours: Mapping[str, Any], where: str) -> None:
  """Raises a UserError if two model groups, whose tensors are alike, compute something else.

  Such are networks that pad or stride differently: the weights fit and the features do not.
  """
  a, b = backbone(theirs), backbone(ours)
  for name in a.__dataclass_fields__:
    there, here = getattr(a, name), getattr(b, name, None)
    if name not in OF_TRAINING and there != here:
      raise UserError(f"{where}: the weights fit, but its network has {name} {there!r} and "
                      f"config.model {here!r}; take its own: --config.model.name=init")


def compile_step(step, state: TrainState, store: Batch, mesh: Mesh, batch: Batch):
  """Compiles the step for the shapes of a run, without running it."""
  names = ["index"] if store else list(batch)
  shapes = {name: jax.ShapeDtypeStruct(batch[name].shape, batch[name].dtype,
                                       sharding=over_batch(mesh)) for name in names}
  return step.lower(state, shapes, store).compile()
