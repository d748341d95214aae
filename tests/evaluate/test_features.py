"""Features come out in order, without what filled up the last batch."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ssl_jax.evaluate import extract


def batches(N, B):
  for start in range(0, N, B):
    index = np.arange(start, start + B)
    yield {"image": (index[:, None] * np.ones(3)).astype(np.float32), "label": index % 5,
           "valid": index < N}


def test_extract_keeps_the_order_and_drops_the_padding():
  features, labels = extract(jax.jit(lambda batch: 2 * batch["image"]), batches(10, 4))
  np.testing.assert_array_equal(features, 2 * np.arange(10)[:, None] * np.ones(3))
  np.testing.assert_array_equal(labels, np.arange(10) % 5)


def test_without_valid_all_rows_count_and_bf16_becomes_f32():
  batch = {"image": np.ones((4, 3)), "label": np.zeros(4, int)}
  features, labels = extract(lambda b: jnp.asarray(b["image"], jnp.bfloat16), [batch, batch])
  assert features.shape == (8, 3) and features.dtype == np.float32 and len(labels) == 8


def test_sharded_features_are_collected():
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec("data"))
  encode = jax.jit(lambda batch: batch["image"] + 1, in_shardings=split, out_shardings=split)
  features, _ = extract(encode, batches(20, 8))
  np.testing.assert_array_equal(features[:, 0], np.arange(20) + 1)
