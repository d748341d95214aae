"""One of two processes: the loss and gradients of every method on the devices of both, as JSON.

    python tests/worker.py PORT PROCESS
"""

import json
import sys

import jax

PROCESSES, BATCH = 2, 16


def main(port: str, process: int) -> None:
  jax.distributed.initialize(f"localhost:{port}", PROCESSES, process)
  import tiny
  assert (jax.device_count(), jax.local_device_count()) == (4, 2)
  share, found = BATCH // PROCESSES, {}
  for method in tiny.METHODS:
    loss, gradients = tiny.loss_and_gradients_on(
        tiny.make_mesh(), method, first=process * share, last=(process + 1) * share)
    found[method] = {"loss": loss, "norm": tiny.norm(gradients)}
  print(json.dumps(found))


if __name__ == "__main__":
  main(sys.argv[1], int(sys.argv[2]))
