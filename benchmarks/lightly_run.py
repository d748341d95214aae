"""The rival's half of `benchmarks.lightly_comparison`: SimCLR by lightly on PyTorch, on a CPU.

Started by it, under a Python that has torch, torchvision and lightly and needs no jax:

    PYTHON -m benchmarks.lightly_run JOB.json IMAGES.npz FEATURES.npz

The loop, the loader, the transform and the loss are what lightly's SimCLR tutorial has; network,
head, optimizer and learning rates are those of the job. Writes the features of both splits and, as
one line of JSON, what it took.
"""

import json
import sys
import time

import numpy as np
import torch

from benchmarks.torch_resnet import ResNet, simclr_head

# torchvision's wheel for CUDA fails on a torch for CPUs because these two operators are not there;
# nothing here calls them.
if not hasattr(torch.ops.torchvision, "nms"):
  library = torch.library.Library("torchvision", "DEF")
  library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
  library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import lightly
import torchvision
from lightly.loss import NTXentLoss
from lightly.transforms import SimCLRTransform
from PIL import Image


class Views(torch.utils.data.Dataset):
  """Two views of image i, made by lightly's transform on the host."""

  def __init__(self, images: np.ndarray, transform):
    self.images = images  # u8[N,S,S,3]
    self.transform = transform

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int):
    return self.transform(Image.fromarray(self.images[index]))


def pretrain(job: dict, images: np.ndarray, backbone: ResNet) -> list[float]:
  """Trains the backbone with a head for as many steps as there are learning rates; its seconds
  after every step."""
  views = job["views"]
  transform = SimCLRTransform(
      input_size=views["size"], cj_strength=views["strength"], min_scale=views["min_area"],
      gaussian_blur=views["blur"], normalize=None)
  model = torch.nn.Sequential(backbone, simclr_head(backbone.features, **job["head"])).train()
  criterion = NTXentLoss(temperature=job["temperature"])
  optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.0,
                              momentum=job["momentum"], weight_decay=job["weight_decay"])
  loader = torch.utils.data.DataLoader(
      Views(images, transform), batch_size=job["batch"], shuffle=True, drop_last=True,
      num_workers=job["workers"], persistent_workers=job["workers"] > 0)
  start, seconds = time.perf_counter(), []
  rates = iter(job["learning_rates"])
  while len(seconds) < len(job["learning_rates"]):
    for a, b in loader:
      for group in optimizer.param_groups:
        group["lr"] = next(rates)
      z = model(torch.cat([a, b]))  # one BatchNorm batch, as in SimCLR
      loss = 2 * criterion(*z.chunk(2))  # the mean over 2B anchors; ours is the sum of two means
      optimizer.zero_grad()
      loss.backward()
      optimizer.step()
      seconds.append(time.perf_counter() - start)
      if len(seconds) % 20 == 0:
        print(f"lightly: step {len(seconds)}  loss {loss.item():.4f}  {seconds[-1]:.0f} s",
              file=sys.stderr, flush=True)
      if len(seconds) == len(job["learning_rates"]):
        break
  return seconds


@torch.no_grad()
def embed(backbone: ResNet, images: np.ndarray) -> np.ndarray:
  """f32[N,F] of whole images, with BatchNorm's running statistics."""
  backbone.eval()
  return np.concatenate([
      backbone(torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255).numpy()
      for part in np.array_split(images, max(len(images) // 256, 1))])


def main() -> None:
  job_path, images_path, features_path = sys.argv[1:]
  with open(job_path) as file:
    job = json.load(file)
  torch.manual_seed(job["seed"])
  images = np.load(images_path)
  backbone = ResNet(**job["network"])
  seconds = pretrain(job, images["train"], backbone)
  np.savez(features_path, **{split: embed(backbone, images[split]) for split in images.files})
  print(json.dumps({
      "seconds_after_step": seconds, "parameters": sum(p.numel() for p in backbone.parameters()),
      "versions": {"lightly": lightly.__version__, "torch": torch.__version__,
                   "torchvision": torchvision.__version__}}))


if __name__ == "__main__":
  main()
