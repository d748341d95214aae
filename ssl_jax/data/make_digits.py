"""Makes the bundled digits of scikit-learn's copy: 1,797 images of 8 x 8 pixels.

  pip install scikit-learn
  python -m ssl_jax.data.make_digits [FILE]

The values 0 to 16 become 0 to 255; the images are in the order of the file, all in "train".
"""

import pathlib
import sys

import numpy as np

from ssl_jax.data.make_fashion_mnist_mini import pack

PATH = pathlib.Path(__file__).parent / "bundled" / "digits.npz"


def arrays() -> dict[str, np.ndarray]:
  """The members of the bundled file."""
  from sklearn.datasets import load_digits
  digits = load_digits()
  return {"images": np.round(digits.images * 255 / 16).astype(np.uint8),
          "labels": digits.target.astype(np.int32),
          "class_names": np.array([str(name) for name in digits.target_names])}


def main() -> None:
  path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else PATH
  path.write_bytes(pack(arrays()))
  print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
  main()
