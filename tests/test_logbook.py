"""What a run writes can be read at any moment, and goes on where the run goes on."""

import json

import pytest
from etils import epath
from tensorboardX.proto import event_pb2

from ssl_jax.logbook import Logbook, write_json


def book(workdir, first_step=0, **options):
  return Logbook(str(workdir), total_steps=10, batch_size=4, first_step=first_step, **options)


def rows(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_rows_are_json_with_step_and_loss_as_soon_as_written(tmp_path):
  with book(tmp_path) as log:
    log.row(2, {"loss": 3.5}, data_wait=0.0)
    (row,) = rows(tmp_path)
    assert (row["step"], row["loss"]) == (2, 3.5) and row["images_per_second"] > 0
    log.score(4, {"knn_top1": 61.0})
    log.score(6, {})  # data without labels: nothing to say
  assert [row["step"] for row in rows(tmp_path)] == [2, 4]
  assert rows(tmp_path)[1] == {"step": 4, "knn_top1": 61.0}


def test_rows_after_the_checkpoint_and_a_last_line_cut_short_are_dropped(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 2, "loss": 1}\n{"step": 4, "loss": 2}\n{"step": 6, "loss": 3}\n{"ste')
  with book(tmp_path, first_step=4) as log:
    log.row(5, {"loss": 9.0}, data_wait=0.0)
  assert [row["step"] for row in rows(tmp_path)] == [2, 4, 5]


def test_only_the_first_process_writes(tmp_path, capsys):
  with book(tmp_path, active=False) as log:
    log.row(2, {"loss": 3.5}, data_wait=0.0)
    log.say("hello")
  assert not list(tmp_path.iterdir()) and capsys.readouterr().out == ""


@pytest.mark.parametrize("wanted", [True, False])
def test_tensorboard_gets_the_same_numbers(tmp_path, wanted):
  with book(tmp_path, tensorboard=wanted) as log:
    log.row(2, {"loss": 3.5}, data_wait=0.0)
  files = list(tmp_path.glob("tensorboard/events*"))
  assert bool(files) == wanted
  if wanted:
    assert ("loss", 2, 3.5) in list(scalars(files[0]))


def scalars(path):
  """The scalars of an event file: records of a length, a checksum, a message and its checksum."""
  data = path.read_bytes()
  while data:
    size = int.from_bytes(data[:8], "little")
    event = event_pb2.Event.FromString(data[12:12 + size])
    yield from ((v.tag, event.step, v.simple_value) for v in event.summary.value)
    data = data[16 + size:]


def test_a_json_file_is_replaced_whole_or_not_at_all(tmp_path):
  path = epath.Path(tmp_path) / "results.json"
  write_json(path, {"a": 1})
  with pytest.raises(TypeError):
    write_json(path, {"a": object()})
  assert json.loads(path.read_text()) == {"a": 1}
  assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
