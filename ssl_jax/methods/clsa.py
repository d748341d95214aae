"""CLSA: weak views are told apart as in MoCo; strong ones imitate what weak ones are similar to."""

from ssl_jax.errors import UserError, nearest
from ssl_jax.losses import batch_and_queue, chance_loss, clsa_terms, positive_and_queue
from ssl_jax.methods.keys import enqueue, queue_of, restored, shuffled
from ssl_jax.models import Network, moco_v2_head
from ssl_jax.schedules import constant
from ssl_jax.types import Array, Batch, Method, Outputs, Run

CANDIDATES = {f.__name__: f for f in (batch_and_queue, positive_and_queue)}


def clsa(run: Run, *, temperature: float = 0.2, divergence_temperature: float = 0.2,
         alpha: float = 1.0, candidates: str = "batch_and_queue", queue: int = 65536,
         decay: float = 0.999, hidden: int | None = None, output: int = 128) -> Method:
  """Wang and Qi 2021 (arXiv:2104.07713), with MoCo v2 as the host.

  The contrastive losses of the views weak0, weak1, ... against the view key, plus `alpha` times
  the divergence of every strong from every weak view: sums over views, as released. A view is a
  forward pass of its own; the keys are shuffled as in MoCo.

  Args:
    run: As in `moco_v2`, with the views of the preset clsa_single or clsa_multi.
    temperature: Of the contrastive softmax.
    divergence_temperature: Of the distributions that are compared.
    alpha: Weight of the divergence.
    candidates: "batch_and_queue", the released code's: the other images' keys are negatives too;
      or "positive_and_queue", a reading of the paper (unconfirmed).
    queue: K.
    decay: m, the rate of the key network.
    hidden: Width of the head's hidden layer; None for that of the features.
    output: Width of the embedding.

  Raises:
    UserError: The views have other names, or there are no such candidates.
  """
  weak = _named(run, "weak")
  return _clsa(run, shuffled(run.views, ("key",)), weak, {"key": weak}, candidates,
               (temperature, divergence_temperature), alpha, queue, decay, hidden, output)


def clsa_symmetric(
    run: Run, *, temperature: float = 0.2, divergence_temperature: float = 0.2,
    alpha: float = 1.0, candidates: str = "batch_and_queue", queue: int = 65536,
    decay: float = 0.999, hidden: int | None = None, output: int = 128) -> Method:
  """`clsa` both ways: a second half compares weak1, ... and the view key with weak0's key.

  The option `--sym` of the released code, which calls it not verified and leaves the second keys
  in another order than their queries; here they are in order. The key network's views are draws
  of their own. Of the keys, the second half's are queued, as released. Options are `clsa`'s.
  """
  weak, moved = _named(run, "weak"), {"target_key": "key", "target_weak0": "weak0"}
  shuffle = shuffled(run.views, moved.values())

  def views(key: Array, batch: Batch):
    other = shuffle(key, batch)
    return run.views(key, batch) | {name: other[view] for name, view in moved.items()}

  halves = {"target_key": weak, "target_weak0": (*weak[1:], "key")}
  return _clsa(run, views, (*weak, "key"), halves, candidates,
               (temperature, divergence_temperature), alpha, queue, decay, hidden, output)


def _clsa(run, views, online, halves, candidates, temperatures, alpha, queue, decay, hidden,
          output) -> Method:
  """`halves` says which online views are compared with the keys of a target view."""
  strong = _named(run, "strong")
  if candidates not in CANDIDATES:
    raise UserError(
        f"config.method.candidates is {candidates!r}; {nearest(candidates, CANDIDATES)}")

  def loss(outputs: Outputs, memory):
    seen = {view: outputs.online[view]["projection"] for view in (*online, *strong)}
    contrastive, divergence = 0.0, 0.0
    for target, queries in halves.items():
      key = restored(outputs, target)
      terms = clsa_terms([seen[q] for q in queries], [seen[s] for s in strong], key,
                         memory["queue"], *temperatures, candidates=CANDIDATES[candidates])
      contrastive, divergence = contrastive + terms[0], divergence + terms[1]
    metrics = {"contrastive_loss": contrastive, "divergence": divergence}
    return contrastive + alpha * divergence, enqueue(memory, queue=key), metrics

  count = queue + (run.batch_size if candidates == "batch_and_queue" else 1)
  pairs = sum(map(len, halves.values())) * (1 + alpha * len(strong))
  head = moco_v2_head(hidden, output, dtype=run.dtype)
  return Method(
      network=Network(run.backbone, (("projection", "features", head),)), views=views,
      online=tuple((view,) for view in (*online, *strong)), target=tuple((v,) for v in halves),
      loss=loss, decay=constant(decay), init_memory=queue_of(queue), negatives=count - 1,
      chance=pairs * chance_loss(count))


def _named(run: Run, kind: str) -> tuple[str, ...]:
  names = tuple(name for name in run.view_names if name.startswith(kind))
  if "key" not in run.view_names or not names:
    raise UserError("method clsa needs the views key, weak0, ..., strong0, ..., not "
                    f"{', '.join(run.view_names)}; set config.views.preset='clsa_single'")
  return names
