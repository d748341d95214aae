"""PyTorch's ResNet-50 SimCLR step on finished views: channels_last, bf16 autocast, torch.compile.

    python -m benchmarks.torch_step [--batch 256] [--small] [--json FILE]

`benchmarks.step` starts it, with a Python that has PyTorch. The step is SimCLR's: both views as one
batch, NT-Xent, momentum SGD (PyTorch brings no LARS; its share of a step is small).
"""

import argparse

import torch
import torch.nn.functional as F

from benchmarks import timing
from benchmarks.torch_resnet import ResNet, simclr_head


def nt_xent(z: torch.Tensor, temperature: float) -> torch.Tensor:
  """SimCLR's loss, averaged over the 2B anchors of z f[2B,D]; row i belongs to row i + B."""
  z = F.normalize(z.float(), dim=1)
  logits = z @ z.T / temperature
  logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), float("-inf"))
  positives = torch.arange(len(z), device=z.device).roll(len(z) // 2)
  return F.cross_entropy(logits, positives)


def make_step(device: torch.device, batch: int, small: bool):
  """Returns (the loss as a function of views and module, module, optimizer, the views)."""
  if small:
    network, size = ResNet((1, 1), "basic", (4, 4), (1, 2), 4, "strided"), 16
  else:
    network, size = ResNet((3, 4, 6, 3), zero_init_last=True), 224
  model = torch.nn.Sequential(network, simclr_head(network.features, 2, None, 128))
  model = model.to(device, memory_format=torch.channels_last)
  views = torch.rand(2 * batch, 3, size, size, device=device).to(
      memory_format=torch.channels_last)
  return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-6), views


def measure(batch: int, small: bool) -> list[dict]:
  """Rows: the step as it is, and compiled."""
  device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
  rows = []
  for name in ("torch", "torch.compile"):
    torch.manual_seed(0)
    model, optimizer, views = make_step(device, batch, small)
    forward = torch.compile(model) if name == "torch.compile" else model

    def call(forward=forward, optimizer=optimizer, views=views):
      with torch.autocast(device.type, torch.bfloat16):
        z = forward(views)
      loss = nt_xent(z, 0.1)
      loss.backward()
      optimizer.step()
      optimizer.zero_grad(set_to_none=True)
      return loss

    def wait(loss):
      if device.type == "cuda":
        torch.cuda.synchronize()

    if device.type == "cuda":
      torch.cuda.reset_peak_memory_stats()
    ms = timing.median_ms(call, wait, seconds=0.05 if small else 5.0, group=3)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
    rows.append({"name": name, "ms": ms, "images_per_second": 1e3 * batch / ms,
                 "peak_mib": peak})
    print(f"{name}: {ms:.2f} ms", flush=True)
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--batch", type=int, default=256, help="images in a step")
  parser.add_argument("--small", action="store_true", help="sizes for a test on a CPU")
  parser.add_argument("--json", help="file to write the figures to")
  arguments = parser.parse_args()
  torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
  torch.backends.cudnn.benchmark = True
  rows = measure(arguments.batch, arguments.small)
  timing.write(arguments.json, {"part": "torch_step", "torch": torch.__version__,
                                "batch": arguments.batch, "rows": rows})


if __name__ == "__main__":
  main()
