"""The stream of batches: its order, its position, its shards, and what it does with bad images."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ssl_jax import data
from ssl_jax.data.batches import Order
from ssl_jax.errors import UserError


def folder(root, count=40, bad=()):
  """A folder of images of different sizes; the red channel says which one it is."""
  rng = np.random.default_rng(0)
  for i in range(count):
    path = root / "ab"[i % 2] / f"{i:02}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if i in bad:
      path.write_bytes(b"not an image")
    else:
      height, width = rng.integers(4, 20, 2)
      Image.new("RGB", (int(width), int(height)), (i, 255 - i, 7)).save(path)
  return data.open_source(f"folder:{root}", "train")


def take(source, count, **options):
  options = {"batch_size": 8, "canvas": 6, "seed": 3, "num_threads": 2} | options
  with data.pipeline(source, **options) as batches:
    return [next(batches) for _ in range(count)]


def assert_same(some, others):
  assert len(some) == len(others)
  for one, other in zip(some, others):
    assert set(one) == set(other)
    for key in one:
      np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_a_batch_holds_what_its_index_names(tmp_path):
  source = folder(tmp_path)
  for batch in take(source, 7):
    assert {k: (v.shape, str(v.dtype)) for k, v in batch.items()} == {
        "image": ((8, 6, 6, 3), "uint8"), "size": ((8, 2), "int32"), "label": ((8,), "int32"),
        "index": ((8,), "int32")}
    for row, index in enumerate(batch["index"]):
      pixels, size = data.to_canvas(source.records[index]["image"], 6)
      np.testing.assert_array_equal(batch["image"][row], pixels)
      assert tuple(batch["size"][row]) == size
      assert batch["label"][row] == source.records[index]["label"]


def test_an_epoch_has_each_image_once_and_the_next_another_order():
  order = Order(count=43, batch_size=8, seed=0)
  assert order.steps_per_epoch == 5
  epochs = [np.concatenate([order(5 * e + t) for t in range(5)]) for e in range(20)]
  assert all(len(set(e)) == 40 for e in epochs)
  assert len({tuple(e) for e in epochs}) == 20
  assert set(np.concatenate(epochs)) == set(range(43))  # the dropped images are not always the same


def test_the_seed_decides_the_order_and_neighbouring_seeds_share_nothing():
  first = [np.concatenate([Order(40, 8, seed)(t) for t in range(20)]) for seed in (0, 0, 1)]
  np.testing.assert_array_equal(first[0], first[1])
  epochs = {tuple(first[0][e:e + 40]) for e in range(0, 160, 40)}
  assert not epochs & {tuple(first[2][e:e + 40]) for e in range(0, 160, 40)}


def test_every_image_is_equally_likely_everywhere():
  first = [int(Order(10, 5, seed)(0)[0]) for seed in range(2000)]
  assert np.abs(np.bincount(first, minlength=10) / 200 - 1).max() < 0.3  # 4 standard deviations


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_each_global_batch_without_overlap(processes):
  whole = Order(50, 8, seed=5)
  shares = [Order(50, 8 // processes, 5, p, processes) for p in range(processes)]
  for step in range(13):
    np.testing.assert_array_equal(np.concatenate([s(step) for s in shares]), whole(step))


def test_two_processes_read_what_one_process_reads(tmp_path):
  source = folder(tmp_path)
  halves = [take(source, 6, batch_size=4, process_index=p, process_count=2) for p in (0, 1)]
  joined = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*halves)]
  assert_same(joined, take(source, 6))
  assert not set(halves[0][0]["index"]) & set(halves[1][0]["index"])


@pytest.mark.parametrize("position", [0, 1, 5, 12])
def test_a_resumed_stream_goes_on_as_if_it_had_not_stopped(tmp_path, position):
  source = folder(tmp_path, bad=(3,))
  whole = take(source, position + 6)
  with data.pipeline(source, batch_size=8, canvas=6, seed=3, num_threads=1) as batches:
    for _ in range(position):
      next(batches)
    state = json.loads(json.dumps(batches.get_state()))
  with data.pipeline(source, batch_size=8, canvas=6, seed=3, num_threads=3) as batches:
    next(batches)  # also a stream that has run may be moved
    batches.set_state(state)
    assert batches.get_state() == state
    assert_same([next(batches) for _ in range(6)], whole[position:])


def test_the_state_is_the_position_of_the_batches_handed_out_and_not_of_those_prefetched():
  source = data.open_source("bundled:fashion_mnist_mini", "test")
  with data.pipeline(source, batch_size=100, canvas=28, seed=0) as batches:
    for step in range(3):
      assert batches.get_state()["step"] == step
      next(batches)


@pytest.mark.parametrize(("now", "then", "named"), [
    ({"seed": 1}, {"seed": 2}, "seed was 1 and is now 2"),
    ({"batch_size": 10}, {"batch_size": 20}, "global_batch was 10 and is now 20"),
    ({"split": "test"}, {"split": "test[:50%]"}, "test: 2000 images.*test.:50%.: 1000 images"),
], ids=["seed", "batch", "data"])
def test_a_resume_with_something_else_names_both_values(now, then, named):
  def start(split="test", batch_size=10, seed=0):
    source = data.open_source("bundled:fashion_mnist_mini", split)
    return data.pipeline(source, batch_size=batch_size, canvas=28, seed=seed)

  with start(**now) as before, start(**then) as after, pytest.raises(UserError, match=named):
    after.set_state(before.get_state())


def test_a_resume_with_other_processes_threads_or_workers_is_the_same_stream():
  source = data.open_source("bundled:fashion_mnist_mini", "test")
  with data.pipeline(source, batch_size=8, canvas=28, seed=0) as one:
    for _ in range(3):
      next(one)
    expected = next(one)["index"]
    state = one.get_state() | {"step": 3}
  for p in (0, 1):
    with data.pipeline(source, batch_size=4, canvas=28, seed=0, process_index=p, process_count=2,
                       resident=True) as half:
      half.set_state(state)
      np.testing.assert_array_equal(next(half)["index"], expected[4 * p:4 * p + 4])


def test_a_resident_stream_is_the_indices_of_the_other():
  source = data.open_source("bundled:fashion_mnist_mini", "test")
  resident = take(source, 4, resident=True)
  assert all(set(b) == {"index"} for b in resident)
  assert_same(resident, [{"index": b["index"]} for b in take(source, 4)])


def test_worker_processes_give_the_same_batches_and_leave_in_silence(tmp_path):
  source = folder(tmp_path, bad=(3,))
  whole = take(source, 5)
  for i, batch in enumerate(whole):
    np.savez(tmp_path / f"{i}.npz", **batch)
  code = f"""
import numpy as np
from ssl_jax import data
if __name__ == "__main__":
  source = data.open_source("folder:{tmp_path}", "train")
  with data.pipeline(source, batch_size=8, canvas=6, seed=3, num_threads=1, num_workers=2) as b:
    for i in range(5):
      batch, expected = next(b), np.load(f"{tmp_path}/{{i}}.npz")
      for key in batch:
        np.testing.assert_array_equal(batch[key], expected[key])
    print(len(source.skipped), b.get_state()["step"])
"""
  script = tmp_path / "script.py"
  script.write_text(code)
  ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
  assert ran.stdout.split() == [str(len(source.skipped)), "5"], ran.stderr
  assert "Traceback" not in ran.stderr and "leaked" not in ran.stderr, ran.stderr


def test_an_unreadable_image_is_replaced_by_the_next_and_named(tmp_path):
  source = folder(tmp_path, bad=(3, 4, 20))
  names = [source.records.name(i) for i in range(40)]
  bad = [i for i, n in enumerate(names) if n[-6:-4] in ("03", "04", "20")]
  batches = take(source, 5)
  index = np.concatenate([b["index"] for b in batches])
  asked = np.concatenate([Order(40, 8, 3)(t) for t in range(5)])
  good = [i for i in range(40) if i not in bad]
  for i, j in zip(asked, index):
    assert j == (i if i in good else next(k % 40 for k in range(i, i + 40) if k % 40 in good))
  assert sorted(source.skipped.reasons) == sorted(names[i] for i in bad)
  news = source.skipped.news()
  assert len(news) == 3 and all("no image format" in line for line in news)


def test_too_many_unreadable_images_end_the_stream_by_name_count_and_limit(tmp_path):
  source = folder(tmp_path, bad=range(12))
  with pytest.raises(UserError, match=r"11 of 40 images are unreadable.*limit of 10; the last is .*"
                                      r"\.png \(no image format"):
    take(source, 5)


def test_a_folder_in_which_nothing_is_an_image_is_an_error(tmp_path):
  source = folder(tmp_path, count=8, bad=range(8))
  for use in (lambda: take(source, 1), lambda: data.load_all(source, 6)):
    with pytest.raises(UserError, match="8 of 8 images are unreadable"):
      use()


@pytest.mark.parametrize(("options", "message"), [
    ({"batch_size": 41}, "has 40 images, fewer than a batch of 41"),
    ({"batch_size": 21, "process_count": 2}, "has 40 images, fewer than a batch of 42"),
    ({"batch_size": 0}, "batch_size is 0, must be at least 1"),
    ({"process_index": 2, "process_count": 2}, "process_index is 2, must be from 0 to 1"),
    ({"seed": -1}, "seed is -1"),
    ({"num_workers": -1}, "num_workers is -1"),
])
def test_counts_that_make_no_sense_are_named(tmp_path, options, message):
  with pytest.raises(UserError, match=message):
    take(folder(tmp_path), 1, **options)


def test_waiting_for_data_is_measured(tmp_path, monkeypatch):
  import time
  source = folder(tmp_path)
  read = type(source.records.records).__getitems__

  def slow(self, indices):
    time.sleep(0.1)
    return read(self, indices)

  monkeypatch.setattr(type(source.records.records), "__getitems__", slow)
  with data.pipeline(source, batch_size=40, canvas=6, seed=0) as batches:
    next(batches)
    assert 0.09 < batches.data_wait() < 5
    assert batches.data_wait() == 0


def test_evaluation_sees_every_image_once_in_order(tmp_path):
  source = folder(tmp_path, bad=(7,))
  bad = next(i for i in range(40) if source.records.name(i).endswith("07.png"))
  batches = list(data.epoch(source, batch_size=16, canvas=6))
  assert [b["image"].shape for b in batches] == [(16, 6, 6, 3)] * 3
  joined = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  valid = joined["valid"]
  assert valid.dtype == bool and joined["index"][valid].tolist() == [
      i for i in range(40) if i != bad]
  assert not valid[40:].any() and set(joined["label"][~valid]) == {-1}
  whole = data.load_all(folder(tmp_path, bad=(7,)), 6)
  for key in ("image", "label", "size"):
    np.testing.assert_array_equal(joined[key][valid], np.delete(whole[key], bad, axis=0))
  assert len(source.skipped) == 1


@pytest.mark.parametrize("count", [16, 17, 3])
def test_processes_share_an_evaluation(count):
  source = data.open_source("bundled:fashion_mnist_mini", f"test[:{count}]")
  whole = list(data.epoch(source, batch_size=8, canvas=28))
  shares = [list(data.epoch(source, batch_size=4, canvas=28, process_index=p, process_count=2))
            for p in (0, 1)]
  assert_same([{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*shares)], whole)


def test_loading_everything_replaces_as_the_stream_does(tmp_path):
  source = folder(tmp_path, bad=(3, 4, 20))
  whole = data.load_all(source, 6, num_threads=2)
  index = np.concatenate([b["index"] for b in take(source, 5)])
  for batch in take(source, 5):
    for key in ("image", "label", "size"):
      np.testing.assert_array_equal(whole[key][batch["index"]], batch[key])
  assert len(source.skipped) == 3 and len(index) == 40


def test_resident_bytes_is_the_size_of_what_is_loaded():
  source = data.open_source("bundled:fashion_mnist_mini", "test[:300]")
  loaded = data.load_all(source, 20)
  assert data.resident_bytes(source, 20) == sum(v.nbytes for v in loaded.values())
