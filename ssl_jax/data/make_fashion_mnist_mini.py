"""Makes the bundled set: 10,000 training and 2,000 test images of Fashion-MNIST.

  apt-get install -y dataset-fashion-mnist
  python -m ssl_jax.data.make_fashion_mnist_mini [FILE]

The rule: of each class the first 1,000 images of the training file and the first 200 of the test
file, in the order of the files. `train_index` and `test_index` say where in them each image stands.
The file is an ordinary .npz whose members carry no date, so the same images give the same members.
"""

import io
import pathlib
import sys
import zipfile

import numpy as np

from ssl_jax.data import fashion_mnist

PATH = pathlib.Path(__file__).parent / "bundled" / "fashion_mnist_mini.npz"
PER_CLASS = {"train": 1000, "test": 200}


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
  """The positions of the first `count` examples of each class, ascending. i32[classes * count]"""
  positions = [np.flatnonzero(labels == c)[:count] for c in np.unique(labels)]
  return np.sort(np.concatenate(positions)).astype(np.int32)


def arrays() -> dict[str, np.ndarray]:
  """The members of the bundled file, chosen from the original files."""
  members = {"class_names": np.array(fashion_mnist.CLASS_NAMES)}
  for split, count in PER_CLASS.items():
    images, labels = fashion_mnist.read(split)
    chosen = first_of_each_class(labels, count)
    members |= {f"{split}_images": images[chosen], f"{split}_labels": labels[chosen],
                f"{split}_index": chosen}
  return members


def pack(members: dict[str, np.ndarray]) -> bytes:
  """Writes a .npz; unlike np.savez it has no date in it."""
  packed = io.BytesIO()
  with zipfile.ZipFile(packed, "w") as archive:
    for name, array in members.items():
      entry = zipfile.ZipInfo(f"{name}.npy")  # its date is 1980-01-01
      with io.BytesIO() as member:
        np.lib.format.write_array(member, array, allow_pickle=False)
        archive.writestr(entry, member.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
  return packed.getvalue()


def main() -> None:
  path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else PATH
  path.write_bytes(pack(arrays()))
  print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
  main()
