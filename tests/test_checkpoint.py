"""Checkpoints come back to the last bit, are thinned out, and are refused in one line if wrong."""

import json

import jax
import numpy as np
import pytest
import tiny

from ssl_jax.checkpoint import FOLDER, Checkpoints, encoder_of, load_encoder
from ssl_jax.errors import UserError

META = {"method": "moco_v2", "model": json.loads(json.dumps(tiny.MODEL)),
        "preprocessing": {"size": 16}}


@pytest.fixture(scope="module")
def state():
  return tiny.disturbed(tiny.first_state(tiny.parts("moco_v2"), tiny.mesh_of(2)))


@pytest.fixture(scope="module")
def other():
  return tiny.first_state(tiny.parts("simclr"), tiny.mesh_of(2))


def at(state, step: int):
  return state._replace(step=state.step * 0 + step)


def save(folder, state, steps, keep=2, scores=None):
  with Checkpoints(str(folder), keep) as checkpoints:
    for step in steps:
      knn = (scores or {}).get(step)
      checkpoints.save(at(state, step), {"next": step}, META,
                       None if knn is None else {"knn_top1": knn})


@pytest.fixture(scope="module")
def workdir(state, tmp_path_factory):
  folder = tmp_path_factory.mktemp("saved")
  save(folder, state, [3])
  return folder


def steps_in(folder) -> list[int]:
  return sorted(int(p.name) for p in (folder / FOLDER).iterdir())


def bits(state):
  return jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))


def test_a_state_comes_back_to_the_last_bit_where_it_was(state, workdir):
  blank = jax.tree.map(lambda x: x if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key) else x * 0,
                       state)
  with Checkpoints(str(workdir), 2) as checkpoints:
    assert checkpoints.latest() == 3
    restored, position = checkpoints.restore(blank)
  jax.tree.map(np.testing.assert_array_equal, bits(restored), bits(at(state, 3)))
  jax.tree.map(lambda a, b: np.testing.assert_equal(a.sharding, b.sharding), restored, state)
  assert position == {"next": 3}


def test_the_encoder_comes_alone_with_what_is_needed_to_rebuild_it(state, workdir):
  saved = load_encoder(str(workdir))
  jax.tree.map(np.testing.assert_array_equal, saved.variables, encoder_of(state))
  assert {type(x) for x in jax.tree.leaves(saved.variables)} == {np.ndarray}  # on the host
  assert saved.meta == META | {"step": 3}


def test_the_last_ones_and_the_best_are_kept(state, tmp_path):
  save(tmp_path, state, [1, 2, 3, 4, 5], keep=2, scores={1: 50.0, 2: 70.0, 3: 60.0})
  assert steps_in(tmp_path) == [2, 4, 5]
  assert load_encoder(str(tmp_path)).meta["step"] == 5
  assert load_encoder(str(tmp_path), 2).meta["step"] == 2


def refused(call, *words: str) -> None:
  with pytest.raises(UserError) as error:
    call()
  assert "\n" not in str(error.value)
  for word in words:
    assert word in str(error.value)


def test_a_step_or_folder_without_checkpoint_is_named(workdir, tmp_path):
  refused(lambda: load_encoder(str(tmp_path)), str(tmp_path), "holds no checkpoint", "name the")
  refused(lambda: load_encoder(str(tmp_path / "none")), "holds no checkpoint")
  refused(lambda: load_encoder(str(workdir), 9), "of step 9", "[3]")


@pytest.mark.parametrize("item", ["state", "encoder"])
def test_a_truncated_checkpoint_is_refused_and_left_alone(state, tmp_path, item):
  save(tmp_path, state, [2, 4])
  broken = tmp_path / FOLDER / "4"
  files = [p for p in (broken / item).rglob("*") if p.is_file() and p.stat().st_size > 64]
  for path in files:
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
  before = sorted((p, p.stat().st_size) for p in tmp_path.rglob("*"))
  if item == "state":
    with Checkpoints(str(tmp_path), 2) as checkpoints:
      refused(lambda: checkpoints.restore(state), str(broken), "cannot be read", "delete")
  else:
    refused(lambda: load_encoder(str(tmp_path)), str(broken), "cannot be read", "earlier step")
    assert load_encoder(str(tmp_path), 2).meta["step"] == 2
  assert sorted((p, p.stat().st_size) for p in tmp_path.rglob("*")) == before


def test_a_checkpoint_of_another_method_is_refused(other, workdir):
  with Checkpoints(str(workdir), 2) as checkpoints:
    refused(lambda: checkpoints.restore(other), str(workdir), "cannot be read", "--workdir")


def test_an_encoder_takes_the_place_of_online_and_target(workdir, state):
  fresh = tiny.first_state(tiny.parts("moco_v2"), tiny.mesh_of(2), seed=1)
  adopted = tiny.first_state(tiny.parts("moco_v2"), tiny.mesh_of(2), seed=1, init=str(workdir))
  for params in (adopted.params, adopted.target_params):
    jax.tree.map(np.testing.assert_array_equal, params["backbone"], state.params["backbone"])
    jax.tree.map(np.testing.assert_array_equal, params["projection"], fresh.params["projection"])
  buffers = [x.addressable_shards[0].data.unsafe_buffer_pointer()
             for x in jax.tree.leaves([adopted.params, adopted.target_params])]
  assert len(set(buffers)) == len(buffers)  # so that both can be donated


def test_an_encoder_of_another_architecture_is_refused(workdir):
  wide = tiny.parts("moco_v2", model__widths=(8, 24))
  refused(lambda: tiny.first_state(wide, tiny.mesh_of(2), init=str(workdir)), str(workdir),
          "tensors of the encoder match", "(16,) there and (24,) here", "config.model")
