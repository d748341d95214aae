"""NT-Xent over many devices: gathered blocks against a ring of `ppermute`, read from the program.

    python -m benchmarks.ring [--devices 8] [--batch 4096] [--json FILE]

Bytes that a device receives, rounds of communication and temporaries, of value and gradient, with
both programs compiled for CPU devices. The ring is the plain one: every device keeps its rows and
passes its embeddings on (with its rows' figures in the backward pass); it exists here only, because
it needs the mesh and an axis name, which no loss knows.
"""

import argparse
import re
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import timing
from ssl_jax.losses import blockwise
from ssl_jax.ops import l2_normalize
from ssl_jax.sharding import make_mesh

WIDTH, TEMPERATURE = 128, 0.1
BATCH = PartitionSpec("data")


def ring_nt_xent(mesh):
  """`nt_xent` of two sharded views, whose candidates travel around the ring."""
  size = mesh.size

  def around(add, total, passed):
    def body(carry, _):
      total, passed = carry
      total = add(total, passed)
      return (total, jax.lax.ppermute(
          passed, "data", [(i, (i + 1) % size) for i in range(size)])), None
    return jax.lax.scan(body, (total, passed), length=size)[0][0]

  def logits(z, ids, other, others):
    inner = jnp.einsum("id,jd->ij", z, other, precision="highest")
    return jnp.where(ids[:, None] == others, -1e9, inner)

  @partial(jax.shard_map, mesh=mesh, in_specs=(BATCH, BATCH), out_specs=BATCH, check_vma=False)
  def mass_of(z, ids):
    def add(state, passed):
      largest, mass = state
      now_logits = logits(z, ids, *passed)
      now = jnp.maximum(largest, now_logits.max(1))
      return now, mass * jnp.exp(largest - now) + jnp.exp(now_logits - now[:, None]).sum(1)
    start = jnp.full(z.shape[:1], -1e9), jnp.zeros(z.shape[:1])
    largest, mass = around(add, start, (z, ids))
    return largest + jnp.log(mass)

  @partial(jax.shard_map, mesh=mesh, in_specs=(BATCH,) * 4, out_specs=BATCH, check_vma=False)
  def gradient(z, ids, mass, g):
    def add(total, passed):
      other, others, mass_T, g_T = passed
      inner = logits(z, ids, other, others)
      weights = g[:, None] * jnp.exp(inner - mass[:, None]) + g_T * jnp.exp(inner - mass_T)
      return total + jnp.matmul(weights, other, precision="highest")
    return around(add, jnp.zeros_like(z), (z, ids, mass, g))

  log_mass = jax.custom_vjp(mass_of)
  log_mass.defvjp(
      lambda z, ids: ((mass := mass_of(z, ids)), (z, ids, mass)),
      lambda kept, g: (gradient(*kept, g), None))

  def loss(a, b):
    pair = jnp.stack([l2_normalize(a), l2_normalize(b)], 1) / TEMPERATURE**0.5
    positive = jnp.repeat((pair[:, 0] * pair[:, 1]).sum(-1), 2)
    mass = log_mass(pair.reshape(-1, WIDTH), jnp.repeat(jnp.arange(len(a)), 2))
    return 2 * jnp.mean(jax.nn.softplus(mass - positive))
  return loss


def received(text: str, devices: int) -> tuple[int, int]:
  """(rounds, bytes received by a device) of a compiled program's collectives, loops counted out."""
  rounds = total = 0
  trips = loop_trips(text)
  for name, body in computations(text).items():
    for shapes, kind in re.findall(
        r"= (.*?) (all-gather|all-reduce|collective-permute)(?:-start)?\(", body):
      size = sum(4 * int(jnp.prod(jnp.array([int(n) for n in dims.split(",") if n] or [1])))
                 for dims in re.findall(r"\[([\d,]*)\]", shapes))
      share = {"all-gather": 1 - 1 / devices, "all-reduce": 2 - 2 / devices,
               "collective-permute": 1}[kind]
      rounds += trips.get(name, 1)
      total += round(trips.get(name, 1) * size * share)
  return rounds, total


def computations(text: str) -> dict[str, str]:
  """Name -> text of every computation of an HLO module."""
  return {name: body for name, body in re.findall(
      r"^(?:ENTRY )?%([\w.\-]+) [^\n]*\{\n(.*?)^\}", text, re.M | re.S)}


def loop_trips(text: str) -> dict[str, int]:
  """Body of a loop -> how often it runs, as the compiler found."""
  return {name: int(count) for name, count in re.findall(
      r'body=%([\w.\-]+).*?known_trip_count":\{"n":"(\d+)"', text)}


def measure(devices: int, batch: int) -> list[dict]:
  """A row for the blocks and one for the ring; the two must agree."""
  mesh = make_mesh(jax.devices()[:devices])
  split = NamedSharding(mesh, BATCH)
  views = jax.device_put(tuple(jax.random.normal(jax.random.key(0), (2, batch, WIDTH))), split)
  forms = {"gathered blocks": partial(blockwise.nt_xent, temperature=TEMPERATURE),
           "ring": ring_nt_xent(mesh)}
  rows, values = [], []
  for name, loss in forms.items():
    compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*views).compile()
    values.append(compiled(*views))
    rounds, total = received(compiled.as_text(), devices)
    memory = compiled.memory_analysis().temp_size_in_bytes
    rows.append({"form": name, "rounds": rounds, "received_mib": total / 2**20,
                 "memory_mib": memory / 2**20})
  largest = max(jnp.abs(x - y).max() / jnp.abs(x).max()
                for x, y in zip(jax.tree.leaves(values[0]), jax.tree.leaves(values[1])))
  assert largest < 1e-4, f"the two differ by {largest}"
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--devices", type=int, default=8)
  parser.add_argument("--batch", type=int, default=4096)
  parser.add_argument("--json", help="file to write the figures to")
  arguments = parser.parse_args()
  jax.config.update("jax_num_cpu_devices", arguments.devices)
  rows = measure(arguments.devices, arguments.batch)
  print(timing.table(["form", "rounds", "received MiB", "memory MiB"],
                     [list(row.values()) for row in rows]))
  timing.write(arguments.json, {"part": "ring", "batch": arguments.batch,
                                **timing.machine(), "rows": rows})


if __name__ == "__main__":
  main()
