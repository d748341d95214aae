"""Arrays in a .npz file, and the set that comes with the package.

The keys of a file are one of
  images (or image), and labels (or label): the split "train";
  SPLIT_images and SPLIT_labels, for each split, as train_images, test_images;
  x_train, y_train, x_test, y_test, as Keras writes them.
Images are u8[N,H,W] or u8[N,H,W,C] with C of 1, 3 or 4; labels are integers [N] or [N,1] and may be
missing; `class_names` is an array of strings and may be missing.
"""

import functools
import pathlib
import zipfile
import zlib

import numpy as np
from etils import epath

from ssl_jax.data.records import ArrayRecords
from ssl_jax.data.shelf import Shelf
from ssl_jax.errors import UserError, nearest

_BUNDLED = pathlib.Path(__file__).parent / "bundled"
_KEYS = "images and labels, or train_images, train_labels, test_images, ..., or x_train, y_train"


def open_bundled(name: str) -> Shelf:
  """Opens a set that comes with the package, such as `fashion_mnist_mini`."""
  known = sorted(p.stem for p in _BUNDLED.glob("*.npz"))
  if name not in known:
    raise UserError(f"bundled:{name} does not come with the package; {nearest(name, known)}")
  return open_npz(str(_BUNDLED / f"{name}.npz"), spec=f"bundled:{name}")


def open_npz(path: str, spec: str | None = None) -> Shelf:
  """Opens a .npz file with the keys that this module's docstring lists."""
  spec = spec or f"npz:{path}"
  members = _load(path, spec)
  arrays = {}
  for key, images in members.items():
    split, label_keys = _split_of(key)
    if split is not None:
      labels = next((members[k] for k in label_keys if k in members), None)
      arrays[split] = _checked(images, labels, f"{spec} [{key}]")
  if not arrays:
    raise UserError(f"{spec} holds {', '.join(members) or 'nothing'}; its keys must be {_KEYS}")
  shapes = {images.shape[1:3] for images, _ in arrays.values()}
  return Shelf(
      splits={split: functools.partial(ArrayRecords, images, labels, f"{spec} {split}")
              for split, (images, labels) in arrays.items()},
      class_names=_class_names(members, arrays.values(), spec),
      image_shape=shapes.pop() if len(shapes) == 1 else None)


def _load(path: str, spec: str) -> dict[str, np.ndarray]:
  where = epath.Path(path).expanduser()
  if not where.is_file():
    raise UserError(f"{spec}: there is no such file; give the path of a .npz file")
  try:
    with where.open("rb") as file, np.load(file, allow_pickle=False) as archive:
      return {key: archive[key] for key in archive.files}
  except (OSError, EOFError, ValueError, AttributeError, TypeError, zlib.error,
          zipfile.BadZipFile) as error:
    reason = " ".join(str(error).split())
    raise UserError(f"{spec} is no whole .npz file of plain arrays ({reason}); write it with "
                    "numpy.savez_compressed") from error


def _split_of(key: str) -> tuple[str | None, tuple[str, ...]]:
  """The split whose images a key holds, and the keys under which its labels may lie."""
  if key in ("image", "images"):
    return "train", ("label", "labels")
  if key.endswith("_images"):
    split = key.removesuffix("_images")
    return split, (f"{split}_labels",)
  if key.startswith("x_"):
    split = key.removeprefix("x_")
    return split, (f"y_{split}",)
  return None, ()


def _checked(images: np.ndarray, labels: np.ndarray | None, what: str):
  if images.dtype != np.uint8:
    raise UserError(f"{what}: images are {images.dtype}, must be uint8 from 0 to 255; convert them "
                    "before saving")
  if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3, 4)):
    raise UserError(f"{what}: images have shape {list(images.shape)}, must be [N,H,W] or [N,H,W,C] "
                    "with 1, 3 or 4 channels last")
  if labels is None:
    return images, None
  labels = labels.reshape(-1) if labels.ndim == 2 and labels.shape[-1] == 1 else labels
  if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
    raise UserError(f"{what}: labels are {labels.dtype}{list(labels.shape)}, must be integers "
                    f"[{len(images)}], one for each image")
  return images, labels.astype(np.int32)


def _class_names(members, arrays, spec: str) -> tuple[str, ...]:
  labels = [values for _, values in arrays if values is not None and values.size]
  if not labels:
    return ()
  count = int(max(values.max() for values in labels)) + 1
  names = members.get("class_names")
  if names is None:
    return tuple(map(str, range(count)))
  if len(names) < count:
    raise UserError(f"{spec}: class_names has {len(names)} names for labels up to {count - 1}")
  return tuple(map(str, names.tolist()))
