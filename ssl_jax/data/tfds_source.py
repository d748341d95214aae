"""TFDS sets stored as ArrayRecord, read without TensorFlow.

A prepared set is found by looking for it, because TFDS answers a missing one with an error about
file formats. Images stay encoded, and nothing but the image and its label is decoded.
"""

import functools
import importlib.util
import os
from collections.abc import Sequence

from etils import epath

from ssl_jax.data.records import Record, Records
from ssl_jax.data.shelf import Shelf
from ssl_jax.errors import UserError, nearest

_INSTEAD = "or use bundled:fashion_mnist_mini or tfds:fashion_mnist, which need no download"


class TfdsRecords(Records):
  """A split of a prepared TFDS set, its images still encoded."""

  def __init__(self, examples, image: str, label: str | None, origin: str, masked: bool = False):
    self.examples = examples
    self.image = image
    self.label = label
    self.origin = origin
    self.masked = masked

  def __len__(self) -> int:
    return len(self.examples)

  def __getitem__(self, index: int) -> Record:
    return self._record(self.examples[index])

  def __getitems__(self, indices: Sequence[int]) -> list[Record]:
    return [self._record(e) for e in self.examples.__getitems__(list(indices))]

  def _record(self, example) -> Record:
    record = {"image": example[self.image],
              "label": -1 if self.label is None else int(example[self.label])}
    return record | {"mask": example["mask"]} if self.masked else record

  def name(self, index: int) -> str:
    return f"record {index} of {self.origin}"


def default_data_dir() -> str:
  """`$TFDS_DATA_DIR`, or TFDS's own default."""
  return os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")


def open_tfds(name: str, data_dir: str | os.PathLike | None = None) -> Shelf:
  """Opens `NAME` or `NAME/config`, and prepares it first where that is possible."""
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise UserError(f"tfds:{name} needs tensorflow-datasets ({error}); run "
                    "`pip install tensorflow-datasets importlib_resources`") from error
  data_dir = epath.Path(os.path.expanduser(os.fspath(data_dir or default_data_dir())))
  prepared = find_prepared(name, data_dir)
  if prepared is None:
    prepare(name, data_dir)
    prepared = find_prepared(name, data_dir)
  try:
    builder = tfds.builder_from_directory(os.fspath(prepared))
  except Exception as error:
    raise UserError(f"tfds:{name}: {prepared} is no whole TFDS folder "
                    f"({' '.join(str(error).split())[:200]}); remove it and prepare it again, "
                    f"{_INSTEAD}") from error
  return adapt(builder, f"tfds:{name}")


def adapt(builder, spec: str) -> Shelf:
  """The splits of a TFDS builder whose set is prepared."""
  features = builder.info.features
  image, label = _image_and_label(features, spec)
  shape = tuple(features[image].shape[:2])
  return Shelf(
      splits={split: functools.partial(read_split, builder, split, spec)
              for split in builder.info.splits},
      class_names=tuple(features[label].names) if label else (),
      image_shape=None if None in shape else shape)


def read_split(builder, split: str, spec: str) -> TfdsRecords:
  """A split of a builder, as encoded images with one label each."""
  import tensorflow_datasets as tfds
  features = builder.info.features
  encoded = {key: tfds.decode.SkipDecoding() for key, feature in features.items()
             if isinstance(feature, tfds.features.Image)}
  examples = builder.as_data_source(split=split, decoders=encoded)
  return TfdsRecords(examples, *_image_and_label(features, spec), f"{spec} {split}",
                     masked="mask" in encoded and features["mask"].shape[-1] == 1)


def _image_and_label(features, spec: str) -> tuple[str, str | None]:
  """The names of the features that are the image and its class; the class may be missing."""
  import tensorflow_datasets as tfds
  images = [key for key, f in features.items() if isinstance(f, tfds.features.Image)
            and not isinstance(f, tfds.features.LabeledImage)]  # which is a segmentation
  labels = [key for key, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
  if not images:
    raise UserError(f"{spec} has no image among its features ({', '.join(features)}); choose a set "
                    "of images")
  return ("image" if "image" in images else images[0],
          "label" if "label" in labels else next(iter(labels), None))


def find_prepared(name: str, data_dir: epath.Path) -> epath.Path | None:
  """The newest prepared version of `NAME` or `NAME/config` below `data_dir`, or None.

  Raises:
    UserError: Several configs are prepared and none was named, or the files are no ArrayRecord.
  """
  folder = data_dir / name
  found = _newest_version(folder)
  if found is None and "/" not in name and folder.is_dir():
    configs = {c.name: v for c in folder.iterdir() if c.is_dir() and (v := _newest_version(c))}
    if len(configs) > 1:
      raise UserError(f"tfds:{name} is prepared in several configs under {folder}; name one: "
                      + ", ".join(f"tfds:{name}/{c}" for c in sorted(configs)))
    found = next(iter(configs.values()), None)
  if found is not None and not any(".array_record" in p.name for p in found.iterdir()):
    raise UserError(f"tfds:{name}: {found} is not in the ArrayRecord format, which alone can be "
                    f"read at random; run `{build_command(name, data_dir)}` after removing it")
  return found


def _newest_version(folder: epath.Path) -> epath.Path | None:
  if not folder.is_dir():
    return None
  versions = [p for p in folder.iterdir() if all(n.isdigit() for n in p.name.split("."))
              and (p / "dataset_info.json").exists()]
  return max(versions, key=lambda p: tuple(map(int, p.name.split("."))), default=None)


def build_command(name: str, data_dir: epath.Path) -> str:
  """The shell command that prepares a set."""
  return f"tfds build {name} --file_format=array_record --data_dir={data_dir}"


def prepare(name: str, data_dir: epath.Path) -> None:
  """Prepares a set as ArrayRecord under `data_dir`.

  Raises:
    UserError: The set does not exist, or cannot be prepared here and now.
  """
  import tensorflow_datasets as tfds
  base, _, config = name.partition("/")
  if base == "fashion_mnist" and not config:
    from ssl_jax.data.fashion_mnist_builder import build
    try:
      return build(data_dir)
    except OSError as error:
      raise UserError(f"tfds:{name} cannot be prepared under {data_dir} ({error}); name a folder "
                      "that can be written with $TFDS_DATA_DIR") from error
  if base == "composed":
    from ssl_jax.data.composed.builder import Settings
    from ssl_jax.data.composed.builder import build as compose
    compose(data_dir, Settings.of_name(config) if config else Settings())
    return None
  known = tfds.list_builders(with_community_datasets=False)
  if base not in known:
    raise UserError(f"tfds:{name}: TFDS has no set {base!r} and none is prepared under {data_dir}; "
                    f"{nearest(base, known)}")
  configs = [c.name for c in tfds.builder_cls(base).BUILDER_CONFIGS] if config else []
  if config and config not in configs:
    raise UserError(f"tfds:{name}: {base} has no config {config!r}; "
                    + (nearest(config, configs) if configs else f"write tfds:{base}"))
  lacking = f"tfds:{name} is not prepared under {data_dir}"
  copy = f"copy a prepared ArrayRecord folder to {data_dir / name}, {_INSTEAD}"
  if importlib.util.find_spec("tensorflow") is None:
    raise UserError(f"{lacking}, and preparing it takes TensorFlow once: run `pip install "
                    f"'ssl_jax[tfds-build]' && {build_command(name, data_dir)}` where there is a "
                    f"network; or {copy}")
  _download(name, data_dir, lacking, copy)


def _download(name: str, data_dir: epath.Path, lacking: str, copy: str) -> None:
  import requests
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.download import downloader
  # Ten retries with doubling pauses would keep a machine without a network waiting for 205 s.
  retries, downloader.MAX_RETRIES = downloader.MAX_RETRIES, 1
  try:
    builder = tfds.builder(name, data_dir=os.fspath(data_dir), file_format="array_record")
    builder.download_and_prepare()
  except requests.exceptions.ConnectionError as error:
    raise UserError(f"{lacking}, and its host cannot be reached from here; {copy}") from error
  except Exception as error:  # manual downloads, checksums, missing packages: each set has its own
    reason = " ".join(str(error).split())[:300]
    raise UserError(f"{lacking}, and preparing it failed ({reason}); {copy}") from error
  finally:
    downloader.MAX_RETRIES = retries
