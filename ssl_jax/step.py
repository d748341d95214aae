"""One pretraining step: the only place that differentiates pretraining.

`key -> views -> routes through the networks -> loss -> gradients -> optimizer -> EMA`, all in one
program over global arrays. Which method runs is data: see `types.Method`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ssl_jax.types import (
  Array,
  Batch,
  Method,
  Metrics,
  Monitor,
  Outputs,
  Params,
  Route,
  TrainState,
  Views,
)

NO_MONITOR = Monitor(init=lambda key, outputs: (), update=lambda state, outputs: ((), {}))


def forward(network, params: Params, stats: Params, views: Views, route: Route):
  """Runs a route in training mode.

  The views of one inner tuple share a forward pass. They are interleaved image by image: to stack
  on a new axis leaves a sharded batch where it is; concatenation would move images.

  Returns:
    ({view: {output: [B, ...]}}, the new BatchNorm statistics).
  """
  outputs = {}
  for names in route:
    images = jnp.stack([views[name] for name in names], axis=1)  # [B,V,h,w,3]
    batch, count = images.shape[:2]
    joint, updated = network.apply(
        {"params": params, "batch_stats": stats},
        images.reshape(batch * count, *images.shape[2:]), train=True, mutable=["batch_stats"])
    stats = updated.get("batch_stats", stats)
    apart = jax.tree.map(lambda x: x.reshape(batch, count, *x.shape[1:]), joint)  # noqa: B023
    for i, name in enumerate(names):
      outputs[name] = jax.tree.map(lambda x: x[:, i], apart)  # noqa: B023
  return outputs, stats


def run(method: Method, params: Params, state: TrainState, batch: Batch):
  """Views, online route and target route of one step.

  Returns:
    (`Outputs`, new online statistics, new target statistics).
  """
  key = jax.random.fold_in(state.key, state.step)
  views = jax.lax.stop_gradient(method.views(key, batch))
  online, stats = forward(method.network, params, state.stats, views, method.online)
  target, target_stats = forward(
      method.network, state.target_params, state.target_stats, views, method.target)
  outputs = Outputs(online, jax.lax.stop_gradient(target), batch, key, state.step)
  return outputs, stats, target_stats


def loss_and_gradients(method: Method, state: TrainState, batch: Batch):
  """The loss of a step and its gradient, before anything is changed.

  Returns:
    ((loss f32[], (outputs, stats, target_stats, memory, metrics)), gradients).
  """

  def loss(params):
    outputs, stats, target_stats = run(method, params, state, batch)
    value, memory, metrics = method.loss(outputs, state.memory)
    return value, (outputs, stats, target_stats, memory, metrics)

  return jax.value_and_grad(loss, has_aux=True)(state.params)


def train_step(method: Method, optimizer: optax.GradientTransformation,
               monitor: Monitor = NO_MONITOR
               ) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """Returns `step(state, batch) -> (state, metrics)`, a pure function to be jitted.

  A step whose loss or gradient is not finite changes nothing but the step's number and the count
  `skipped`: parameters, statistics, optimizer, memory and target stay as they were.
  """

  def step(state: TrainState, batch: Batch):
    (loss, (outputs, stats, target_stats, memory, metrics)), gradients = loss_and_gradients(
        method, state, batch)
    gradient_norm = optax.tree.norm(gradients)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = jnp.asarray(method.decay(state.step), jnp.float32)
    target_params = jax.tree.map(
        lambda new, old: decay * old + (1 - decay) * new,
        _same_structure(params, state.target_params), state.target_params)
    monitor_state, watched = monitor.update(state.monitor, jax.lax.stop_gradient(outputs))
    new = state._replace(
        params=params, stats=stats, target_params=target_params, target_stats=target_stats,
        opt_state=opt_state, memory=memory, monitor=monitor_state)
    finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
    new = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, state)
    new = new._replace(step=state.step + 1, skipped=state.skipped + (~finite).astype(jnp.int32))
    return new, {"loss": loss, "gradient_norm": gradient_norm, "skipped": new.skipped,
                 **metrics, **watched}

  return step


def init_state(method: Method, optimizer: optax.GradientTransformation, batch: Batch, key: Array,
               monitor: Monitor = NO_MONITOR) -> TrainState:
  """The state before the first step. Call it inside `jit`, so that no two leaves share a buffer.

  Args:
    method: What will be trained.
    optimizer: Its optimizer.
    batch: Arrays or shapes of one global batch; only their shapes are used.
    key: The run's root key.
    monitor: What is watched.
  """
  network_key, memory_key, monitor_key = jax.random.split(jax.random.fold_in(key, 1), 3)
  views = jax.eval_shape(method.views, key, batch)
  image = views[method.online[0][0]]
  variables = method.network.init(
      network_key, jnp.zeros((2, *image.shape[1:]), image.dtype), train=False)
  params, stats = variables["params"], variables.get("batch_stats", {})
  has_target = method.target != ()
  state = TrainState(
      step=jnp.zeros((), jnp.int32), key=key, params=params, stats=stats,
      target_params=params if has_target else {}, target_stats=stats if has_target else {},
      opt_state=optimizer.init(params), memory=(), monitor=(), skipped=jnp.zeros((), jnp.int32))
  outputs, *_ = jax.eval_shape(lambda s, b: run(method, s.params, s, b), state, batch)
  return state._replace(memory=method.init_memory(memory_key, outputs),
                        monitor=monitor.init(monitor_key, outputs))


def _same_structure(params: Params, target_params: Params) -> Params:
  return params if target_params else {}
