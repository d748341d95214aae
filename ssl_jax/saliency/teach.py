"""`python -m ssl_jax.saliency.teach`: trains a saliency network on masks of other estimators.

    python -m ssl_jax.saliency --data SPEC --split 'train[:2500]' --method mean --out MASKS
    python -m ssl_jax.saliency.teach --data SPEC --split 'train[:2500]' --masks MASKS --weights NET
    python -m ssl_jax.saliency --data SPEC --split train --method learned --weights NET --out OUT

It learns the mean of the masks of one or more folders; no label and no true mask is used. ReLICv2
takes 2,500 images (by memory).
"""

import argparse
import os
import sys
import time

import numpy as np

from ssl_jax.data.decoding import mask_to_canvas
from ssl_jax.data.loading import load_all
from ssl_jax.data.masks import Masks, open_masks
from ssl_jax.data.source import SPECS, Source, open_source
from ssl_jax.errors import UserError, exiting

LEAST = 8  # images that a network can learn anything from


def parse(argv: list[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
      prog="python -m ssl_jax.saliency.teach", description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--data", required=True, help=SPECS)
  parser.add_argument("--split", default="train")
  parser.add_argument("--data_dir", help="where tfds sets lie")
  parser.add_argument("--masks", required=True, nargs="+", help="folders of masks of these images")
  parser.add_argument("--weights", required=True, help="file to write, .npz")
  parser.add_argument("--size", type=int, default=64, help="side of the squares that it sees")
  parser.add_argument("--epochs", type=int, default=5, help="passes in each round (%(default)s)")
  parser.add_argument("--rounds", type=int, default=2,
                      help="how often its predictions refine the labels (%(default)s)")
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args(argv)
  for name, least in (("epochs", 1), ("rounds", 0), ("seed", 0), ("size", 32)):
    if getattr(arguments, name) < least:
      raise UserError(f"--{name}={getattr(arguments, name)} must be at least {least}")
  if arguments.size % 16:
    raise UserError(f"--size={arguments.size} must be a multiple of 16, such as 64 or 96")
  folder = os.path.dirname(arguments.weights) or "."
  if not arguments.weights.endswith(".npz") or not os.path.isdir(folder):
    raise UserError(f"--weights={arguments.weights} must be a .npz file in a folder that exists")
  return arguments


def mean_labels(source: Source, folders: list[Masks], size: int) -> np.ndarray:
  """The mean of the masks of several folders, on squares: f32[N,S,S] in [0, 1]."""
  labels = np.zeros((len(source), size, size), np.float32)
  for index in range(len(source)):
    for folder in folders:
      labels[index] += mask_to_canvas(folder[index], size)
  return labels / (255 * len(folders))


def run(argv: list[str]) -> None:
  arguments = parse(argv)
  source = open_source(arguments.data, arguments.split, data_dir=arguments.data_dir)
  if len(source) < LEAST:
    raise UserError(f"{source.spec} {source.split} has {len(source)} images; give {LEAST} or more")
  folders = [open_masks(path, source) for path in arguments.masks]
  labels = mean_labels(source, folders, arguments.size)
  images = load_all(source, arguments.size)["image"]
  import jax

  from ssl_jax.saliency import learned
  teaching = learned.Teaching(epochs=arguments.epochs, rounds=arguments.rounds)
  start = time.perf_counter()
  params = learned.train(images, labels, jax.random.key(arguments.seed), teaching,
                         say=lambda line: print(line, flush=True))
  learned.save(arguments.weights, params, arguments.size)
  print(f"{arguments.weights} after {time.perf_counter() - start:.0f} s; use it with "
        f"--method learned --weights {arguments.weights}")


def main() -> None:
  """The command: exit status 0, or 2 with one line for a mistake of the user's."""
  exiting(run, sys.argv[1:])


if __name__ == "__main__":
  main()
