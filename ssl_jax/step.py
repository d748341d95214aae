"""One pretraining step: the only place that differentiates pretraining.

`key -> views -> routes through the networks -> loss -> gradients -> optimizer -> EMA`, all in one
program over global arrays. Which method runs is data: see `types.Method`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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


class MicroBatches(NamedTuple):
  """How the batch is divided where its activations do not fit.

  Attributes:
    count: Micro-batches M; 1 leaves the batch whole.
    together: Consecutive images that stay together, in units of which the batch is dealt out: with
      grouped BatchNorm the group's size, so that every group is whole.
  """

  count: int = 1
  together: int = 1


WHOLE = MicroBatches()
NO_MONITOR = Monitor(init=lambda key, outputs: (), update=lambda state, outputs: ((), {}))


@partial(jax.jit, static_argnums=0)
def applied(network, variables, images: Array):
  """The network in training mode. Jitted so that it is traced once for all views of one shape."""
  return network.apply(variables, images, train=True, mutable=["batch_stats"])


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
    joint, updated = applied(
        network, {"params": params, "batch_stats": stats},
        images.reshape(batch * count, *images.shape[2:]))
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


def cached_loss_and_gradients(method: Method, micro: MicroBatches, state: TrainState, batch: Batch):
  """`loss_and_gradients` with the activations of one micro-batch at a time: gradient caching.

  Gao et al. 2021, arXiv:2101.06983: embed the micro-batches, differentiate the loss of all
  embeddings, then embed each micro-batch again and pull its embeddings' gradients back. Exact: the
  loss sees the whole batch, and so does whatever draws the views, all of which are held (a view of
  224 pixels takes 0.6 MB).

  BatchNorm sees a micro-batch at a time. In groups (`model.norm_group`) it is what it is on the
  whole batch, and so is everything else. A global one becomes one in groups of a micro-batch, which
  holds the images m, m + M, m + 2M, ... The new running statistics are the mean of what the
  micro-batches make of the old ones, which for groups is again what the whole batch makes of them.
  """
  key = jax.random.fold_in(state.key, state.step)
  views = jax.lax.stop_gradient(method.views(key, batch))
  # [B, ...] -> [B / (M u), M, u, ...]: where whole units lie on every device no image moves.
  dealt = jax.tree.map(lambda x: x.reshape(-1, *micro, *x.shape[1:]), views)

  def part(tree, m):
    taken = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, m, 1, keepdims=False), tree)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), taken)

  def whole(parts):  # [M, B / M, ...] -> [B, ...]
    apart = jax.tree.map(lambda x: x.reshape(
        micro.count, -1, micro.together, *x.shape[2:]).swapaxes(0, 1), parts)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), apart)

  def embed(_, m):
    online, stats = forward(method.network, state.params, state.stats, part(dealt, m),
                            method.online)
    target, target_stats = forward(method.network, state.target_params, state.target_stats,
                                   part(dealt, m), method.target)
    return None, (online, target, stats, target_stats)

  _, (online, target, *moved) = jax.lax.scan(embed, None, jnp.arange(micro.count))
  stats, target_stats = jax.tree.map(lambda x: x.mean(0), moved)

  def loss(online):
    outputs = Outputs(online, jax.lax.stop_gradient(whole(target)), batch, key, state.step)
    value, memory, metrics = method.loss(outputs, state.memory)
    return value, (outputs, stats, target_stats, memory, metrics)

  loss_and_rest, cotangents = jax.value_and_grad(loss, has_aux=True)(whole(online))
  cotangents = jax.tree.map(lambda x: x.reshape(-1, *micro, *x.shape[1:]), cotangents)

  def pull_back(total, m):
    def online_of(params):
      return forward(method.network, params, state.stats, part(dealt, m), method.online)[0]
    _, pull = jax.vjp(online_of, state.params)
    return jax.tree.map(jnp.add, total, pull(part(cotangents, m))[0]), None

  zeros = jax.tree.map(jnp.zeros_like, state.params)
  return loss_and_rest, jax.lax.scan(pull_back, zeros, jnp.arange(micro.count))[0]


def train_step(method: Method, optimizer: optax.GradientTransformation,
               monitor: Monitor = NO_MONITOR, micro: MicroBatches = WHOLE
               ) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """Returns `step(state, batch) -> (state, metrics)`, a pure function to be jitted.

  A step whose loss or gradient is not finite changes nothing but the step's number and the count
  `skipped`: parameters, statistics, optimizer, memory and target stay as they were.
  """

  differentiate = (partial(loss_and_gradients, method) if micro.count == 1
                   else partial(cached_loss_and_gradients, method, micro))

  def step(state: TrainState, batch: Batch):
    (loss, (outputs, stats, target_stats, memory, metrics)), gradients = differentiate(state, batch)
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
