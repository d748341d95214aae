"""The original Fashion-MNIST files (Xiao et al. 2017, arXiv:1708.07747; MIT licence).

They are looked for where `$FASHION_MNIST_DIR` says, in the data folder, and where Debian's package
`dataset-fashion-mnist` puts them; then they are downloaded. Whatever their origin, they are checked
against the digest of their contents: Debian's differ from the original in the gzip header only.
"""

import gzip
import hashlib
import os
import pathlib
import urllib.error
import urllib.request
import zlib

import numpy as np

from ssl_jax.errors import UserError

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
               "Bag", "Ankle boot")
DEBIAN = "/usr/share/datasets/fashion-mnist"
ENVIRONMENT = "FASHION_MNIST_DIR"
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FILES = {"train": "train", "test": "t10k"}
# SHA-256 of the four files unpacked; the packed originals are those that TFDS 4.9.10 registers.
DIGESTS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
WAY_OUT = (f"run `apt-get install -y dataset-fashion-mnist`, or put its four .gz files into a "
           f"folder and set ${ENVIRONMENT}, or use bundled:fashion_mnist_mini")
_CONNECT_SECONDS = 5.0


def read(split: str, data_dir: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
  """Reads a split, "train" or "test", in the order of the original files.

  Returns:
    u8[N,28,28] and i32[N], N = 60,000 or 10,000.

  Raises:
    UserError: The files are nowhere to be found and cannot be downloaded, or are not the originals.
  """
  images = _payload(f"{FILES[split]}-images-idx3-ubyte", data_dir)
  labels = _payload(f"{FILES[split]}-labels-idx1-ubyte", data_dir)
  # IDX: a magic number and one big-endian i32 per axis, then the values.
  return (np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28),
          np.frombuffer(labels, np.uint8, offset=8).astype(np.int32))


def folders(data_dir: str | os.PathLike | None = None) -> list[pathlib.Path]:
  """Where the files are looked for, in order."""
  named = os.environ.get(ENVIRONMENT)
  if named:
    return [pathlib.Path(named)]
  near = [] if data_dir is None else [pathlib.Path(data_dir)]
  return [*near, *(folder / "fashion-mnist" for folder in near), pathlib.Path(DEBIAN)]


def _payload(name: str, data_dir: str | os.PathLike | None) -> bytes:
  searched = folders(data_dir)
  for folder in searched:
    path = folder / f"{name}.gz"
    if path.is_file():
      return _unpack(path.read_bytes(), name, str(path))
  try:
    with urllib.request.urlopen(f"{URL}{name}.gz", timeout=_CONNECT_SECONDS) as answer:
      packed = answer.read()
  except (urllib.error.URLError, OSError) as error:
    places = ", ".join(map(str, searched))
    raise UserError(
        f"Fashion-MNIST: {name}.gz is not in {places}, and {URL} cannot be reached "
        f"({getattr(error, 'reason', error)}); {WAY_OUT}") from error
  return _unpack(packed, name, f"{URL}{name}.gz")


def _unpack(packed: bytes, name: str, origin: str) -> bytes:
  try:
    payload = gzip.decompress(packed)
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(f"{origin} is no whole gzip file ({error}); {WAY_OUT}") from error
  if hashlib.sha256(payload).hexdigest() != DIGESTS[name]:
    raise UserError(f"{origin} does not hold the original {name} (its SHA-256 differs); {WAY_OUT}")
  return payload
