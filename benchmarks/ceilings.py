"""What the device can do at most: GB/s of a copy in its memory, TFLOP/s of a bf16 matrix product.

    python -m benchmarks.ceilings [--small] [--json FILE]

Both on random data. The copy counts bytes read and bytes written; it is an elementwise negation,
which a compiler cannot drop. The other parts give their times as shares of these two.
"""

import argparse

import jax
import jax.numpy as jnp

from benchmarks import timing


def copy_gbs(mebibytes: int, seconds: float) -> float:
  """GB/s of reading and writing so many MiB, several times any cache."""
  x = jax.random.normal(jax.random.key(0), (mebibytes * 2**18,), jnp.float32)
  negate = jax.jit(jnp.negative)
  ms = timing.median_ms(lambda: negate(x), jax.block_until_ready, seconds=seconds)
  return 2 * x.nbytes / ms / 1e6


def matmul_tflops(size: int, seconds: float) -> float:
  """TFLOP/s of a product of two square bf16 matrices."""
  a, b = jax.random.normal(jax.random.key(1), (2, size, size), jnp.bfloat16)
  product = jax.jit(jnp.matmul)
  ms = timing.median_ms(lambda: product(a, b), jax.block_until_ready, seconds=seconds)
  return 2 * size**3 / ms / 1e9


def measure(small: bool = False) -> dict[str, float]:
  """{"copy_gbs", "bf16_matmul_tflops"} of the first device."""
  seconds = 0.05 if small else 2.0
  return {"copy_gbs": copy_gbs(16 if small else 2048, seconds),
          "bf16_matmul_tflops": matmul_tflops(256 if small else 8192, seconds)}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--small", action="store_true", help="sizes for a test on a CPU")
  parser.add_argument("--json", help="file to write the figures to")
  arguments = parser.parse_args()
  figures = {"part": "ceilings", **timing.machine(), **measure(arguments.small)}
  print(timing.table(["ceiling", "measured"], [
      ["device copy, GB/s", figures["copy_gbs"]],
      ["bf16 matrix product, TFLOP/s", figures["bf16_matmul_tflops"]]]))
  timing.write(arguments.json, figures)


if __name__ == "__main__":
  main()
