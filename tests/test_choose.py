"""What is chosen for somebody's own images, and that what they set stays."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import tiny  # noqa: F401  (finds the configs)
from PIL import Image

from ssl_jax import choose, config
from ssl_jax.errors import UserError

LAPTOP = choose.Facts(images=5000, side=300, devices=1, accelerator=False, memory=8 * choose.GIB,
                      labelled=False, tested=False)
POD = LAPTOP._replace(images=10_000_000, devices=64, accelerator=True, memory=16 * choose.GIB)


def open_config(method: str = "simclr", **changes) -> dict:
  from configs import my_images
  made = my_images.get_config(method)
  made.data = "folder:/photos"
  return config.resolve(made) | changes


@pytest.mark.parametrize("case", list(itertools.product(
    (200, 5000, 10_000_000), (28, 100, 1000), (1, 8), (False, True), (8, 80))))
def test_a_choice_is_whole_fits_and_divides(case):
  *counts, accelerator, memory = case
  known = choose.Facts(*counts, accelerator, memory * choose.GIB, labelled=False, tested=False)
  images, side, devices = counts
  for method in ("simclr", "moco_v2", "byol"):
    made, reasons = choose.choose(open_config(method), known)
    filled = choose._filled(open_config(method), made)
    config.validate(filled)
    batch, size = filled["batch_size"], filled["views"]["size"]
    assert batch % devices == 0 and devices <= batch <= max(images // 2, devices)
    assert 16 <= size <= 224 and size <= max(side, 16)
    assert 2 * size**2 * choose.BYTES_PER_PIXEL[filled["model"]["name"]] * batch / devices <= (
        known.memory)
    assert filled["total_epochs"] >= 3 and len(reasons) >= 5
    if method == "moco_v2":
      assert filled["method"]["queue"] % batch == 0


def test_a_laptop_gets_a_small_network_and_a_pod_a_large_one():
  laptop, pod = (choose.choose(open_config(), known)[0] for known in (LAPTOP, POD))
  assert laptop["model"]["name"] == "resnet8" and laptop["model"]["dtype"] == "float32"
  assert pod["model"]["name"] == "resnet50" and pod["model"]["dtype"] == "bfloat16"
  assert laptop["batch_size"] == 128 and pod["batch_size"] == 4096
  assert laptop["optimizer"]["name"] == "sgd" and pod["optimizer"]["name"] == "lars_simclr"
  assert laptop["views"]["size"] == 64 and pod["views"]["size"] == 224


def test_what_is_set_stays_and_the_rest_follows_it():
  ours = open_config(batch_size=None, total_steps=7)
  ours["views"] = ours["views"] | {"size": 448}
  ours["model"] = ours["model"] | {"name": "resnet50"}
  a_gpu = LAPTOP._replace(accelerator=True, memory=80 * choose.GIB)
  filled = choose._filled(ours, choose.choose(ours, a_gpu)[0])
  assert filled["views"]["size"] == 448 and filled["model"]["name"] == "resnet50"
  assert filled["total_steps"] == 7 and filled["total_epochs"] is None
  usual = choose.choose(open_config(), a_gpu._replace(images=50_000))[0]["batch_size"]
  assert filled["batch_size"] < usual


def test_too_few_images_are_refused():
  with pytest.raises(UserError, match="has 20 images; pretraining needs at least 32"):
    choose.choose(open_config(), LAPTOP._replace(images=20))


def test_a_device_tells_its_memory():
  @dataclasses.dataclass
  class Device:
    stats: dict | None

    def memory_stats(self):
      return self.stats
  assert choose._memory(Device({"bytes_limit": 5})) == 5
  assert choose._memory(Device(None)) == 8 * choose.GIB


def test_own_images_in_one_command_and_the_same_command_goes_on(command, tmp_path):
  random = np.random.default_rng(0)
  for i in range(48):
    folder = tmp_path / "photos" / "ab"[i % 6 == 0]
    folder.mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 255, (20 + i % 3, 24, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{i}.png")
  flags = ["--config=configs/my_images.py", f"--config.data=folder:{tmp_path}/photos",
           f"--workdir={tmp_path}/run", "--config.total_steps=2", "--config.batch_size=16",
           "--config.model.width=0.25", "--config.views.size=16", "--config.tensorboard=False"]
  first, again = command(*flags), command(*flags)
  assert (first[0], again[0]) == (0, 0), first[2] + again[2]
  assert "chosen: there is no split 'test': a tenth of 'train' is kept for the test" in first[1]
  assert "chosen:" not in again[1]
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  assert results["steps"] == 2 and "linear" in results
  assert "few_label" not in results and "few labels" not in first[1]  # b has 8 images
