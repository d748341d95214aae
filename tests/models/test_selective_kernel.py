"""Selective kernels and ResNet-D against loops over pixels in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ssl_jax.models import make_backbone
from ssl_jax.models.conv import Conv
from ssl_jax.models.norm import batch_norm
from ssl_jax.models.selective_kernel import SelectiveKernel

draw = np.random.default_rng(0).normal


def quickly(function):
  return jax.jit(function, compiler_options=tiny.QUICK)


def convolve(x, kernel, stride):
  """Every output pixel from its window, with k // 2 zeros around the image."""
  k = kernel.shape[0]
  padded = np.pad(x, ((0, 0), (k // 2,) * 2, (k // 2,) * 2, (0, 0)))
  rows, columns = (range(0, n, stride) for n in x.shape[1:3])
  return np.stack([np.stack([
      np.tensordot(padded[:, i:i + k, j:j + k], kernel, 3) for j in columns], 1) for i in rows], 1)


def norm(x):
  return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)


def naive(x, p, stride):
  """The two streams of every image and channel, weighted by a softmax of two numbers."""
  x = np.maximum(norm(convolve(x, p["conv"]["kernel"], stride)), 0)
  B, _, _, C = x.shape
  first, second = x[..., :C // 2], x[..., C // 2:]
  pooled = (first + second).mean((1, 2), keepdims=True)
  hidden = np.maximum(norm(convolve(pooled, p["hidden_conv"]["kernel"], 1)), 0)
  logits = convolve(hidden, p["choice_conv"]["kernel"], 1)
  y = np.zeros_like(first)
  for i in range(B):
    for c in range(C // 2):
      a, b = np.exp(logits[i, 0, 0, [c, C // 2 + c]])
      y[i, ..., c] = (a * first[i, ..., c] + b * second[i, ..., c]) / (a + b)
  return y


@pytest.mark.parametrize("stride", [1, 2])
def test_the_kernel_is_chosen_for_each_image_and_channel(stride):
  x = draw(size=(3, 6, 6, 5)).astype(np.float32)
  module = SelectiveKernel(4, stride, Conv, batch_norm("global"))
  variables = quickly(lambda x: module.init(jax.random.key(0), x, True))(x)
  shapes = jax.tree.map(jnp.shape, variables["params"])
  assert shapes["hidden_conv"]["kernel"] == (1, 1, 4, 32)  # the least width
  y, _ = quickly(lambda v, x: module.apply(v, x, True, mutable=["batch_stats"]))(variables, x)
  parameters = jax.tree.map(np.asarray, variables["params"])
  np.testing.assert_allclose(y, naive(x, parameters, stride), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(6, 1), (6, 2), (5, 2)])
def test_the_shortcut_of_resnet_d_is_a_mean_and_then_a_convolution(size, stride):
  """Of what lies within the image with stride 1; of zeros too behind an odd image with stride 2."""
  module = make_backbone("resnet10", blocks=(1,), widths=(8,), strides=(stride,), stem_width=4,
                         stem="small", projection="pooled")
  images = draw(size=(2, size, size, 3)).astype(np.float32)
  wanted = ("stem_norm", "projection_conv")

  def run(images):
    variables = module.init(jax.random.key(0), images, False)
    return variables, module.apply(variables, images, False, mutable=["intermediates"],
                                   capture_intermediates=lambda m, _: m.name in wanted)[1]

  variables, state = jax.tree.map(np.asarray, quickly(run)(images))
  found = state["intermediates"]
  x = np.maximum(found["stem_norm"]["__call__"][0], 0)
  got = found["stage1_block1"]["projection_conv"]["__call__"][0]
  kernel = variables["params"]["stage1_block1"]["projection_conv"]["kernel"][0, 0]
  assert got.shape[1] == -(-size // stride)
  for i in range(got.shape[1]):
    for j in range(got.shape[2]):
      window = x[:, i * stride:i * stride + 2, j * stride:j * stride + 2]
      count = 4 if stride > 1 else window.shape[1] * window.shape[2]
      np.testing.assert_allclose(got[:, i, j], window.sum((1, 2)) / count @ kernel,
                                 rtol=1e-4, atol=1e-5)


def test_a_network_of_simclr_v2_has_the_stem_and_the_blocks_of_its_paper():
  module = make_backbone("resnet50_sk", blocks=(1, 2), widths=(8, 8), strides=(1, 2), stem_width=8)
  variables = jax.eval_shape(
      lambda key: module.init(key, jnp.zeros((1, 32, 32, 3)), False), jax.random.key(0))
  parameters = jax.tree.map(jnp.shape, variables["params"])
  stem = [parameters[f"stem_conv{i}"]["kernel"] for i in (1, 2, 3)]
  assert stem == [(3, 3, 3, 4), (3, 3, 4, 4), (3, 3, 4, 8)]
  block = parameters["stage2_block1"]
  assert block["projection_conv"]["kernel"] == (1, 1, 32, 32)
  assert set(block) == {"conv1", "norm1", "spatial2", "conv3", "norm3", "projection_conv",
                        "projection_norm"}
  assert block["spatial2"]["conv"]["kernel"] == (3, 3, 8, 16)
  outputs = jax.eval_shape(lambda v, x: module.apply(v, x, False), variables,
                           jnp.zeros((2, 32, 32, 3)))
  assert [outputs[f"stage{i}"].shape[1] for i in (1, 2)] == [8, 4]
