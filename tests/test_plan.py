"""Plans: names of slices, collectives of a program, arithmetic by hand, bytes that a run holds."""

import json
import subprocess

import jax
import numpy as np
import pytest
import tiny

from ssl_jax import plan, program
from ssl_jax.errors import UserError
from ssl_jax.plan import chips, remedies, roofline
from ssl_jax.plan import program as planned
from ssl_jax.plan.hlo import collectives
from ssl_jax.sharding import global_batch


@pytest.mark.parametrize(("name", "topology", "count", "devices", "hosts"), [
    ("v5e-256", "v5e:16x16", 256, 256, 64), ("v5e-1", "v5e:1x1", 1, 1, 1),
    ("v6e-8", "v6e:2x4", 8, 8, 2), ("v3-32", "v3:4x4", 16, 32, 4),
    ("v4-8", "v4:2x2x1", 4, 4, 1), ("v5p-256", "v5p:4x4x8", 128, 128, 32),
    ("tpu7x-128", "tpu7x:4x4x4", 64, 128, 16), ("v5e:8x32", "v5e:8x32", 256, 256, 64)])
def test_a_name_means_the_slice_that_google_calls_so(name, topology, count, devices, hosts):
  found = chips.find_slice(name)
  assert found.topology == topology
  assert (found.chips, found.devices, found.hosts) == (count, devices, hosts)


@pytest.mark.parametrize(("name", "words"), [
    ("v5e", "write it like"), ("v7-8", "unknown TPU 'v7'"), ("v5e-6", "6 chips"),
    ("v5p-9", "9 cores"), ("v5p:4x4", "3 axes"), ("v5e:0x4", "2 axes")])
def test_a_name_that_means_nothing_is_refused(name, words):
  with pytest.raises(UserError, match=words):
    chips.find_slice(name)


def line(operation: str, channel: int, groups: str, path: str) -> str:
  return (f"  %x.{channel} = {operation}, channel_id={channel}, replica_groups={groups}, "
          f'metadata={{op_name="jit(step)/{path}"}}')


FOUR, PAIRS, ALL = "[1,4]<=[4]", "[2,2]<=[4]", "{{0,1,2,3}}"
BACKWARD = "transpose(jvp(Network))/backbone"
HLO = "\n".join([
    "HloModule jit_step",
    "%fused (p: f32[8]) -> f32[8] {",
    line("f32[8,4]{1,0} all-gather(%x)", 1, FOUR, "jvp()/while/body/dot_general"),
    "}",
    "%body (p: f32[8]) -> f32[8] {",
    "  %f = f32[8] fusion(%x), kind=kCustom, calls=%fused",
    "}",
    "ENTRY %main (p: f32[8]) -> f32[8] {",
    "  %w = (s32[], f32[8]) while(%t), condition=%cond, body=%body, "
    'backend_config={"known_trip_count":{"n":"3"}}',
    line("f32[8,4]{1,0} all-gather(%y)", 2, PAIRS, "jvp()/dot_general"),
    line("f32[8,4]{1,0} all-gather(%y)", 2, PAIRS, "jvp()/dot_general"),  # its second half
    line("(f32[16]{0}, bf16[3,4]{1,0}) all-reduce(%a, %b)", 3, ALL, f"{BACKWARD}/conv1/conv"),
    line("f32[16]{0} all-reduce(%c)", 4, ALL, f"{BACKWARD}/norm1/reduce_sum"),
    line("(f32[2]{0}, f32[8]{0}) all-gather-start(%d)", 5, FOUR, "jvp(Network)/conv1/conv"),
    "  %e = f32[8]{0} all-gather-done(%s)",
    "  %q = f32[5]{0} collective-permute(%f), channel_id=6, source_target_pairs={{0,1}}",
    '  %z = f32[9]{0} fusion(%p), metadata={op_name="jit(step)/jvp()/dot_general"}',
    "  %u = f32[9]{0} all-reduce(%z), channel_id=7, replica_groups={{0,1,2,3}}",
    "}"])


def test_collectives_are_counted_once_a_run_and_named_for_what_they_do():
  found = {(c.kind, c.purpose): (c.count, c.size, c.group) for c in collectives(HLO, 4)}
  assert found == {
      ("all-gather", "loss"): (4, 4 * 32 * 4, 4),  # thrice in the loop, once outside
      ("all-reduce", "gradients"): (1, 16 * 4 + 12 * 2, 4),
      ("all-reduce", "BatchNorm"): (1, 64, 4),
      ("all-gather", "parameters"): (1, 32, 4),
      ("all-reduce", "loss"): (1, 36, 4),  # by what it sends
      ("collective-permute", "other"): (1, 20, 4)}


FIGURES = {"flops": 197e12 / 100, "bytes": 819e9 / 50, "total_steps": 36000, "images": 0,
           "arguments": 2**30, "temporaries": 2**31, "results": 0, "code": 2**20,
           "collectives": [
               {"kind": "all-reduce", "purpose": "gradients", "count": 1, "size": 100e6,
                "group": 4},
               {"kind": "all-gather", "purpose": "loss", "count": 1, "size": 40e6, "group": 4},
               {"kind": "collective-permute", "purpose": "other", "count": 1, "size": 50e6,
                "group": 4}]}


def test_the_roofline_is_the_one_worked_out_by_hand():
  where = chips.find_slice("v5e-4")
  found = roofline.summary({"batch_size": 512}, FIGURES, where)
  # 10 ms of operations, 20 of memory; 2 * 3/4 * 100 MB, 3/4 * 40 MB and 4 * 50 MB at 200 GB/s.
  np.testing.assert_allclose(list(found["seconds"].values()),
                             [0.01, 0.02, (150e6 + 30e6 + 200e6) / 200e9])
  assert (found["bound"], found["fits"]) == ("memory", True)
  np.testing.assert_allclose(
      [found["step_seconds"], found["images_per_second"], found["hours"], found["chip_hours"]],
      [0.02, 25600, 0.2, 0.8])
  assert found["hbm_needed"] == 3 * 2**30 + 2**20
  # The two cores of a v3 chip share its memory, its bandwidth and its links.
  v3 = chips.find_slice("v3-8")
  assert roofline.capacity(v3) == 16 * 2**30
  np.testing.assert_allclose(roofline.times(FIGURES, v3).compute, 2 * FIGURES["flops"] / 123e12)


@pytest.fixture(scope="module")
def measured():
  """The figures of a tiny run, planned for 8 CPU devices, and the same run."""
  config = tiny.settings("moco_v2", method__queue=8192, data="bundled:fashion_mnist_mini")
  mesh = tiny.mesh_of(8)
  figures = planned.figures(config, mesh, tiny.QUICK)
  parts = planned.build.parts(config, planned.source_of(config))
  state = program.first_state(config, parts, mesh)
  return figures, state, parts, mesh


def test_planned_bytes_are_what_a_run_holds(measured):
  figures, state, _, mesh = measured

  def on_device(tree):
    leaves = jax.tree.leaves(tree)
    return sum(x.addressable_shards[0].data.nbytes for x in leaves)
  assert figures["parameters"] == on_device(state.params) > 0
  assert figures["target"] == on_device(state.target_params)
  assert figures["optimizer"] == on_device(state.opt_state)
  assert figures["memory_bank"] == on_device(state.memory) == 8192 * 128 * 4 // 8 + 4
  assert figures["statistics"] == on_device((state.stats, state.target_stats))
  batch = global_batch(mesh, tiny.host_batch())
  del batch["index"]  # MoCo reads nothing but its length
  whole = state._replace(key=jax.random.key_data(state.key))
  held = on_device(whole) + on_device(batch)
  assert figures["arguments"] == held
  assert figures["images"] == 10000 and figures["flops"] > 1e6
  purposes = {c["purpose"] for c in figures["collectives"]}
  assert {"gradients", "BatchNorm", "loss"} <= purposes


def test_imagenet_is_planned_without_its_images():
  config = tiny.settings("simclr", data="tfds:imagenet2012", train_split="train[:10%]")
  source = planned.source_of(config)
  assert (len(source), len(source.class_names)) == (128117, 1000)
  with pytest.raises(UserError, match="no split 'training'"):
    planned.source_of(config | {"train_split": "training"})


def test_remedies_are_ordered_and_possible():
  config = tiny.settings("moco_v2", batch_size=64, model__norm_group=4)
  names = [[name for name, _ in family] for family in remedies.families(config, 8)]
  assert names == [["--config.model.dtype=bfloat16"], ["--config.model.remat=True"],
                   ["--config.mesh.fsdp=8"],
                   ["--config.micro_batches=2", "--config.micro_batches=4",
                    "--config.micro_batches=8"],
                   ["--config.batch_size=32", "--config.batch_size=16"]]
  for family in remedies.families(config, 8):
    for _, changed in family:
      plan.check_batch(changed, chips.find_slice("v5e-8"))


GIB = 2**30


def answers(monkeypatch, answer):
  """Makes `answer(config)` the compiler."""
  monkeypatch.setattr(plan, "check_compiler", lambda: None)
  monkeypatch.setattr(plan, "compile_for", lambda config, where: answer(config))


def test_the_command_prints_a_plan_and_writes_it(command, monkeypatch, tmp_path):
  answers(monkeypatch, lambda config: {"figures": FIGURES | {
      "parameters": GIB, "target": 0, "optimizer": GIB, "memory_bank": 0}})
  status, out, errors = command(*tiny.flags(tmp_path / "run", "simclr"), "--plan=v5e-4,v5p-8",
                                f"--plan_json={tmp_path / 'plan.json'}")
  assert status == 0, errors
  assert "v5e-4: 4 chips" in out and "v5p-8: 4 chips" in out
  assert "optimizer 1,024 MiB" in out and "bound by memory" in out and "all-reduce" in out
  plans = json.loads((tmp_path / "plan.json").read_text())
  assert [p["slice"] for p in plans] == ["v5e-4", "v5p-8"]
  assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_told_with_what_would(command, monkeypatch, tmp_path):
  answers(monkeypatch, lambda config: {"too_large": 20 * GIB} if not config["model"]["remat"] else
          {"figures": FIGURES})
  status, out, errors = command(*tiny.flags(tmp_path / "run", "simclr"), "--plan=v5e-4")
  assert status == 0, errors
  assert "does not fit: 20,480 MiB needed, 16,384 MiB there" in out
  assert "remat=True: 3,073 MiB, fits" in out
  assert "micro_batches=4: 20,480 MiB, does not fit" in out


@pytest.mark.parametrize(("flag", "words"), [
    ("--plan=v9-8", "unknown TPU"), ("--plan=v5e-32", "not a multiple of its 32 devices")])
def test_a_plan_that_cannot_be_is_refused_in_one_line(command, monkeypatch, tmp_path, flag, words):
  answers(monkeypatch, lambda config: pytest.fail("it was compiled"))
  status, _, errors = command(*tiny.flags(tmp_path / "run", "simclr"), flag)
  assert status == 2 and errors.count("\n") == 1 and words in errors


def test_a_compiler_that_is_missing_or_dies_is_told_in_one_line(monkeypatch):
  def ends(code, stdout="", stderr=""):
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(
        a, code, stdout, stderr))
  ends(1)
  with pytest.raises(UserError, match=r"pip install 'ssl_jax\[tpu\]'"):
    plan.check_compiler()
  ends(-6, stderr="F0000 a check failed\n")
  with pytest.raises(UserError, match="v5e-4: F0000 a check failed"):
    plan.compile_for({}, chips.find_slice("v5e-4"))
  ends(0, stdout=json.dumps({"too_large": 5}))
  assert plan.compile_for({}, chips.find_slice("v5e-4")) == {"too_large": 5}
