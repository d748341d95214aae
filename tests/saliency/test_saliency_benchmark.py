"""The benchmark of the estimators judges them by the masks of the records."""

import numpy as np
import pytest

from benchmarks import saliency as benchmark
from ssl_jax.data.records import ArrayRecords, Chosen
from ssl_jax.data.source import open_source
from ssl_jax.errors import UserError


class Masked(Chosen):
  """Records with a true mask each, of which some are empty."""

  def __getitem__(self, index):
    record = super().__getitem__(index)
    return record | {"mask": (record["image"][..., 0] > 150).astype(np.uint8) * 255}


def test_estimators_are_judged_by_the_masks(tmp_path):
  rows, columns = np.mgrid[:40, :40]
  images = [np.where((np.hypot(rows - 20, columns - 14 - 4 * i) < 8)[..., None],
                     (220, 190, 60), (40, 70, 120)) for i in range(3)]
  images = np.stack([*images, np.full((40, 40, 3), 40)]).astype(np.uint8)
  np.savez(tmp_path / "s.npz", images=images)
  source = open_source(f"npz:{tmp_path / 's.npz'}", "train")
  with pytest.raises(UserError, match="has no masks; compose a set"):
    benchmark.load(source)
  object.__setattr__(source, "records", Masked(ArrayRecords(images, None, "here"), range(4)))
  assert len(benchmark.load(source)) == 3  # of an empty mask there is nothing to find
  found = benchmark.measure(source)
  assert set(found) == {"gs", "mbd", "mbd+", "rbd", "mc", "mean"}
  for row in found.values():
    assert row["max_f"] > 0.95 and row["adaptive_f"] > 0.8 and row["mae"] < 0.06
    assert row["images_per_s"] > 0
