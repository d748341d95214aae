"""One spec string for every source of images."""

import dataclasses
import hashlib
import os

import numpy as np

from ssl_jax.data import splits
from ssl_jax.data.archives import open_archive
from ssl_jax.data.folder import open_folder
from ssl_jax.data.listing import open_list
from ssl_jax.data.npz import open_bundled, open_npz
from ssl_jax.data.records import Chain, Chosen, Records
from ssl_jax.data.tfds_source import open_tfds
from ssl_jax.errors import UserError, nearest

SPECS = "bundled:fashion_mnist_mini, tfds:NAME[/config], folder:/path, list:/file or npz:/path"
_SAMPLED = 16  # records whose bytes go into a fingerprint


class Skipped:
  """The unreadable images of a source that were met, each named and counted once."""

  def __init__(self, spec: str, count: int, limit: int):
    self.spec = spec
    self.count = count
    self.limit = limit
    self.reasons: dict[str, str] = {}  # name -> why it is unreadable
    self._told = 0

  def __len__(self) -> int:
    return len(self.reasons)

  def add(self, name: str, reason: str) -> None:
    """Records an image. Raises a UserError beyond the limit, or if no image is left."""
    self.reasons.setdefault(name, reason)
    met = f"{self.spec}: {len(self.reasons)} of {self.count} images are unreadable"
    last = f"the last is {name} ({reason})"
    if len(self.reasons) > self.limit:
      raise UserError(f"{met}, more than the limit of {self.limit}; {last}; repair or remove them, "
                      "or raise max_unreadable")
    if len(self.reasons) == self.count:
      raise UserError(f"{met}; {last}; give images that can be read")

  def news(self) -> list[str]:
    """One line for each image added since the last call, for the caller to log."""
    lines = [f"skipped unreadable image {name}: {reason}" for name, reason in self.reasons.items()]
    told, self._told = self._told, len(lines)
    return lines[told:]


@dataclasses.dataclass(frozen=True)
class Source:
  """A split of a set of images, with random access.

  Attributes:
    spec: The spec string that was opened.
    split: The split string that was opened.
    records: `records[i]` is {"image": encoded bytes or u8[H,W] / u8[H,W,3], "label": int}, the
      label -1 where there is none; `records.name(i)` is what to call it.
    class_names: The names of labels 0, 1, ...; () if unlabelled.
    image_shape: The (H, W) of all images, or None if it differs or is not known.
    fingerprint: Identifies the content: kind, split, number, class names and a sample of the bytes.
      It holds no path, so the same images elsewhere have the same fingerprint.
    skipped: The unreadable images met so far, by whichever way the source was read.
    masked: Whether batches shall hold the masks of the records.
  """

  spec: str
  split: str
  records: Records
  class_names: tuple[str, ...]
  image_shape: tuple[int, int] | None
  fingerprint: str
  skipped: Skipped = dataclasses.field(compare=False, repr=False)
  masked: bool = False

  def __len__(self) -> int:
    return len(self.records)


def open_source(spec: str, split: str, *, data_dir: str | os.PathLike | None = None,
                max_unreadable: int | None = None) -> Source:
  """Opens a split of a set of images.

  Args:
    spec: `bundled:fashion_mnist_mini`; `tfds:NAME[/config]`, prepared as ArrayRecord;
      `folder:/path`, `list:/file`, `npz:/path`: see the module of that name (`listing` for list);
      `archive:NAME`, see `ssl_jax.data.archives`.
    split: A split in the manner of TFDS, such as train, train[:50%], train[1000:], train+test.
    data_dir: Where TFDS sets and archives lie: `$TFDS_DATA_DIR` or ~/tensorflow_datasets if None.
    max_unreadable: How many unreadable images are skipped before it is an error; by default 1 % of
      the images, and at least 10.

  Raises:
    UserError: The spec, the set or the split does not exist, cannot be had, or holds no image.
  """
  kind, colon, rest = spec.partition(":")
  openers = {"bundled": open_bundled, "folder": open_folder, "list": open_list, "npz": open_npz,
             "tfds": lambda name: open_tfds(name, data_dir),
             "archive": lambda name: open_archive(name, data_dir)}
  if not (colon and rest) or kind not in openers:
    hint = nearest(kind, openers) + " " if colon else ""
    raise UserError(f"data source {spec!r} is not understood; {hint}write {SPECS}")
  wanted = splits.parse(split)
  shelf = openers[kind](rest)
  for part in wanted:
    splits.check_exists(part.name, list(shelf.splits), spec)
  whole = {part.name: shelf.splits[part.name]() for part in wanted}
  spans = [Chosen(whole[p.name], range(*p.bounds(len(whole[p.name])))) for p in wanted]
  records = spans[0] if len(spans) == 1 else Chain(spans)
  if not len(records):
    sizes = ", ".join(f"{name} has {len(r)}" for name, r in whole.items())
    raise UserError(f"{spec}: split {split!r} holds no image ({sizes}); ask for a larger part")
  if max_unreadable is None:
    max_unreadable = max(10, len(records) // 100)
  return Source(
      spec, split, records, shelf.class_names, shelf.image_shape,
      fingerprint=_fingerprint(kind if kind in ("folder", "list", "npz") else spec, split, records,
                               shelf.class_names),
      skipped=Skipped(spec, len(records), max_unreadable))


def divide(source: Source, count: int, seed: int) -> tuple[Source, Source]:
  """At most `count` images drawn at random without replacement, and the rest; each in order."""
  order = np.random.default_rng(seed).permutation(len(source))

  def part(indices, which: str) -> Source:
    return dataclasses.replace(
        source, records=Chosen(source.records, np.sort(indices).tolist()),
        fingerprint=f"{which} {count}, seed {seed}, of {source.fingerprint}")
  return part(order[:count], "first"), part(order[count:], "after")


def sample(source: Source, count: int, seed: int) -> Source:
  """At most `count` images of a source, drawn at random without replacement, in its order."""
  return source if len(source) <= count else divide(source, count, seed)[0]


def _fingerprint(what: str, split: str, records: Records, class_names: tuple[str, ...]) -> str:
  digest = hashlib.sha256(repr(class_names).encode())
  for index in np.linspace(0, len(records) - 1, _SAMPLED).astype(int).tolist():
    try:
      record = records[index]
      image = record["image"]
      digest.update(image if isinstance(image, bytes) else np.ascontiguousarray(image).tobytes())
      digest.update(str(record["label"]).encode())
    except OSError:  # unreadable now as later: it is named when a batch asks for it
      digest.update(b"unreadable")
  return (f"{what} {split}: {len(records)} images, {len(class_names)} classes, "
          f"{digest.hexdigest()[:16]}")
