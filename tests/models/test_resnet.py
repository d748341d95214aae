import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.models.registry import make_backbone, stem_for
from ssl_jax.models.resnet import INITS

TINY = dict(blocks=(1, 1), widths=(8, 16), strides=(1, 2), stem_width=8, stem="small")


def shapes(module, size=64):
  return jax.eval_shape(
      lambda key: module.init(key, jnp.zeros((1, size, size, 3)), False), jax.random.key(0))


def start(module, images):
  return jax.jit(lambda x: module.init(jax.random.key(0), x, False))(images)


def train(module, variables, images):
  return jax.jit(lambda v, x: module.apply(v, x, True, mutable=["batch_stats"]))(variables, images)


def count(module):
  return sum(x.size for x in jax.tree.leaves(shapes(module)["params"]))


@pytest.mark.parametrize(("name", "parameters"), [
    ("resnet18", 11_176_512), ("resnet34", 21_284_672), ("resnet50", 23_508_032),
    ("resnet101", 42_500_160), ("resnet152", 58_143_808)])
def test_parameters_are_torchvisions_without_the_classifier(name, parameters):
  assert count(make_backbone(name)) == parameters


@pytest.mark.parametrize(("name", "width", "millions"), [
    ("resnet50", 1, 24), ("resnet101", 1, 43), ("resnet152", 1, 58), ("resnet200", 1, 63),
    ("resnet50", 2, 94), ("resnet50", 3, 211), ("resnet50", 4, 375), ("resnet200", 2, 250)])
def test_parameters_are_those_of_the_byol_paper(name, width, millions):
  byol = make_backbone(name, width=width, padding="same", kernel_init="haiku",
                       shortcut="every_stage")
  assert round(count(byol) / 1e6) == millions


@pytest.mark.parametrize(("name", "width", "millions"), [
    ("resnet50_sk", 1, 35), ("resnet50_sk", 2, 140), ("resnet101_sk", 2, 257),
    ("resnet152_sk", 3, 795), ("resnet152", 2, 233)])
def test_variables_are_those_of_the_simclr_v2_paper(name, width, millions):
  """Its table counts the running averages of BatchNorm as well."""
  variables = shapes(make_backbone(name, width=width))
  assert round(sum(x.size for x in jax.tree.leaves(variables)) / 1e6) == millions


@pytest.mark.parametrize(("name", "blocks"), [("resnet8", 1), ("resnet14", 2), ("resnet20", 3)])
def test_the_cifar_family_has_the_kernels_of_its_paper(name, blocks):
  """6n + 2 layers: the stem, 2n of each width and the classifier; and two projections here."""
  kernels = [x for x in jax.tree.leaves(shapes(make_backbone(name, stem="small"), 32)["params"])
             if x.ndim == 4]
  three = [x.shape for x in kernels if x.shape[0] == 3]
  assert len(kernels) - 2 == len(three) == 6 * blocks + 1
  wanted = 27 * 16 + 9 * (2 * blocks * 16 ** 2 + sum(
      (2 * blocks - 1) * w * w + w * w // 2 for w in (32, 64)))
  assert sum(np.prod(s) for s in three) == wanted


@pytest.mark.parametrize(("stem", "sizes"), [
    ("imagenet", (56, 28, 14, 7)), ("small", (224, 112, 56, 28)), ("strided", (112, 56, 28, 14))])
@pytest.mark.parametrize("padding", ["torch", "same", "simclr"])
def test_the_stem_sets_the_size_of_every_stage(stem, sizes, padding):
  module = make_backbone("resnet50", stem=stem, padding=padding, width=2)
  images = jnp.zeros((2, 224, 224, 3))
  outputs = jax.eval_shape(lambda v, x: module.apply(v, x, False), shapes(module), images)
  for i, (size, channels) in enumerate(zip(sizes, (512, 1024, 2048, 4096)), 1):
    assert outputs[f"stage{i}"].shape == (2, size, size, channels)
  assert outputs["features"].shape == (2, 4096)


def test_the_stem_follows_the_image_size():
  for name, large in (("resnet50", "imagenet"), ("resnet50_sk", "deep")):
    assert [stem_for(name, s) for s in (28, 32, 64, 65, 224)] == ["small"] * 3 + [large] * 2


def test_width_scales_every_layer():
  one, three = (shapes(make_backbone("resnet18", width=w))["params"] for w in (1, 3))
  assert jax.tree.structure(one) == jax.tree.structure(three)
  for path, leaf in jax.tree.leaves_with_path(one):
    names = [p.key for p in path]
    wide = three[names[0]]
    for name in names[1:]:
      wide = wide[name]
    inputs = 1 if names[0] == "stem_conv" else 3
    wanted = list(leaf.shape[:-1]) + [3 * leaf.shape[-1]]
    if leaf.ndim == 4:
      wanted[2] *= inputs
    assert list(wide.shape) == wanted, names


def test_stride_two_lies_in_the_three_by_three():
  """v1.5, as in torchvision and BYOL's code: the 1x1 before it sees every pixel."""
  module = make_backbone("resnet50", blocks=(1, 1), widths=(2, 2), strides=(1, 2), stem_width=2,
                         stem="small")
  _, state = jax.eval_shape(
      lambda v, x: module.apply(v, x, False, capture_intermediates=True, mutable=["intermediates"]),
      shapes(module, 16), jnp.zeros((1, 16, 16, 3)))
  block = state["intermediates"]["stage2_block1"]
  sizes = {name: out["__call__"][0].shape[1] for name, out in block.items() if "conv" in name}
  assert sizes == {"conv1": 16, "conv2": 8, "conv3": 8, "projection_conv": 8}


def test_projections_are_where_the_shape_changes_or_in_every_stage():
  first = lambda shortcut: "projection_conv" in shapes(
      make_backbone("resnet18", shortcut=shortcut))["params"]["stage1_block1"]
  assert not first("when_needed")
  assert first("every_stage")


def test_a_block_whose_last_scale_is_zero_starts_as_its_shortcut():
  deep, shallow = (make_backbone("resnet18", **TINY | dict(blocks=blocks, zero_init_last=True))
                   for blocks in ((2, 1), (1, 1)))
  x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
  v = start(deep, x)
  run = lambda m: train(m, v, x)[0]["features"]
  np.testing.assert_array_equal(run(deep), run(shallow))
  assert float(run(deep).std()) > 0.01
  params = dict(v["params"])  # and with another last scale, the block does count
  params["stage1_block2"] = {**params["stage1_block2"], "norm2": params["stage1_block2"]["norm1"]}
  v = {**v, "params": params}
  outputs = [run(m) for m in (deep, shallow)]
  assert float(np.abs(outputs[0] - outputs[1]).max()) > 0.01


def test_paddings_give_different_features_of_the_same_parameters():
  x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
  options = TINY | dict(blocks=(1,), widths=(8,), strides=(2,), stem="imagenet")
  v = start(make_backbone("resnet10", **options), x)
  features = [train(make_backbone("resnet10", padding=p, **options), v, x)[0]["features"]
              for p in ("torch", "same", "simclr")]
  for a, b in ((0, 1), (0, 2), (1, 2)):
    assert float(np.abs(features[a] - features[b]).max()) > 1e-3


@pytest.mark.parametrize(("name", "deviation"), [
    # sqrt of the variance of a normal cut at two sigma, 0.7737, is in haiku's alone.
    ("haiku", np.sqrt(0.7737 / (9 * 32))), ("simclr", np.sqrt(1 / (9 * 32))),
    ("torch", np.sqrt(2 / (9 * 128)))])
def test_kernels_start_with_the_published_deviation(name, deviation):
  kernel = INITS[name](jax.random.key(0), (3, 3, 32, 128), jnp.float32)
  np.testing.assert_allclose(kernel.std(), deviation, rtol=0.01)
  np.testing.assert_allclose(kernel.mean(), 0, atol=1e-3)


def test_bfloat16_computes_low_and_keeps_high():
  x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
  low, high = (make_backbone("resnet10", dtype=d, **TINY) for d in (jnp.bfloat16, jnp.float32))
  v = start(low, x)
  outputs, new = train(low, v, x)
  assert outputs["stage1"].dtype == jnp.bfloat16
  assert outputs["features"].dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves((v, new))} == {jnp.dtype("float32")}
  wanted, _ = train(high, v, x)
  np.testing.assert_allclose(outputs["features"], wanted["features"], atol=0.1)


@pytest.mark.parametrize(("what", "options", "message"), [
    ("resnet5", {}, "did you mean 'resnet50'"), ("resnet18", {"widht": 2}, "did you mean 'width'"),
    ("resnet18", {"stem": "smal"}, "did you mean 'small'"),
    ("resnet18", {"widths": (8, 16)}, "4 blocks, 2 widths, 4 strides"),
    ("resnet18", {"padding": "tf"}, "known: same, simclr, torch")])
def test_what_is_unknown_is_told_with_what_is_near(what, options, message):
  with pytest.raises(UserError, match=message):
    shapes(make_backbone(what, **options))


def test_lists_of_a_configuration_make_a_hashable_module():
  assert hash(make_backbone("resnet10", widths=[8, 8, 16, 16])) == hash(
      make_backbone("resnet10", widths=(8, 8, 16, 16)))
