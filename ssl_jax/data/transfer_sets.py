"""The data sets of the two transfer studies, the robustness sets and an offline suite, as a table.

Ericsson, Gouk, Hospedales 2021, arXiv:2011.13377, tables and code; Islam et al. 2021,
arXiv:2103.13517, code. What is opened is compared with the table, and differences are told.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssl_jax.data.records import Chosen, Records
from ssl_jax.data.source import Source, open_source
from ssl_jax.errors import UserError, nearest

FIFTH, SEVEN_TENTHS, OFFICIAL, SHIFTED = "fifth", "seven_tenths", "official", "shifted"
SPLIT_RULES = {
  OFFICIAL: "train, validation and test as published",
  FIFTH: "validation is a fifth of train: the first of a shuffle with numpy's RandomState(0)",
  SEVEN_TENTHS: "test is 30 % of each class, RandomState(0) walking through the classes; "
                "validation is a fifth of the rest as above",
  SHIFTED: "judged by the classifier of another set, nothing is fitted",
}


class TransferSet(NamedTuple):
  """One data set.

  Attributes:
    title: Its name for people.
    papers: Who uses it: "ericsson", "ericsson few-shot", "islam", "robustness", "offline".
    spec: A source.
    classes: How many.
    rule: A key of `SPLIT_RULES`.
    splits: {part: split of the source}; without validation or test, the rule makes them of train.
    sizes: {part: images} as published, or as the source has them where `note` says so.
    metric: "top1", "mean_per_class" or "map11".
    pool: The parts that few-shot episodes draw from; () where a set has no single class an image.
    of: The set whose classifier judges this one, for the rule "shifted".
    restricted: Whether only classes that occur here may be predicted, for the rule "shifted".
    note: In what the source differs from the papers' files.
  """

  title: str
  papers: tuple[str, ...]
  spec: str
  classes: int
  rule: str
  splits: dict[str, str]
  sizes: dict[str, int]
  metric: str = "top1"
  pool: tuple[str, ...] = ("train", "validation", "test")
  of: str = ""
  restricted: bool = False
  note: str = ""


BOTH, A, CD, B = (("ericsson", "islam"), ("ericsson",), ("ericsson few-shot", "islam"), ("islam",))
TRAIN_TEST = {"train": "train", "test": "test"}
THREE = {"train": "train", "validation": "validation", "test": "test"}
ALL = {"train": "train"}
SHIFT = {"test": "test"}


def _shifted(title: str, spec: str, classes: int, count: int, **more) -> TransferSet:
  return TransferSet(title, ("robustness",), spec, classes, SHIFTED, SHIFT, {"test": count},
                     pool=(), of="imagenet", **more)


SETS: dict[str, TransferSet] = {
  "aircraft": TransferSet(
      "FGVC-Aircraft", A, "archive:aircraft", 100, OFFICIAL,
      {"train": "train", "validation": "val", "test": "test"},
      {"train": 3334, "validation": 3333, "test": 3333}, "mean_per_class"),
  "caltech101": TransferSet(
      "Caltech-101", A, "tfds:caltech101", 102, FIFTH, TRAIN_TEST,
      {"train": 3060, "test": 6084}, "mean_per_class",
      note="TFDS draws other 30 images a class than the paper's list, which had 3060 rows with "
           "2416 different images, and 6728 for the test"),
  "cars": TransferSet("Stanford Cars", A, "tfds:cars196", 196, FIFTH, TRAIN_TEST,
                      {"train": 8144, "test": 8041}),
  "cifar10": TransferSet("CIFAR-10", A, "tfds:cifar10", 10, FIFTH, TRAIN_TEST,
                         {"train": 50000, "test": 10000}),
  "cifar100": TransferSet("CIFAR-100", A, "tfds:cifar100", 100, FIFTH, TRAIN_TEST,
                          {"train": 50000, "test": 10000}),
  "dtd": TransferSet("DTD, partition 1", BOTH, "tfds:dtd", 47, OFFICIAL, THREE,
                     {"train": 1880, "validation": 1880, "test": 1880}),
  "flowers": TransferSet("Oxford Flowers", BOTH, "tfds:oxford_flowers102", 102, OFFICIAL, THREE,
                         {"train": 1020, "validation": 1020, "test": 6149}, "mean_per_class"),
  "food": TransferSet("Food-101", A, "tfds:food101", 101, FIFTH,
                      {"train": "train", "test": "validation"}, {"train": 75750, "test": 25250}),
  "pets": TransferSet("Oxford-IIIT Pets", A, "tfds:oxford_iiit_pet", 37, FIFTH, TRAIN_TEST,
                      {"train": 3680, "test": 3669}, "mean_per_class"),
  "sun397": TransferSet("SUN397, partition 01", A, "archive:sun397", 397, FIFTH, TRAIN_TEST,
                        {"train": 19850, "test": 19850}),
  "voc2007": TransferSet(
      "VOC2007", A, "archive:voc2007", 20, OFFICIAL,
      {"train": "train", "validation": "val", "test": "test"},
      {"train": 2501, "validation": 2510, "test": 4952}, "map11", pool=()),
  "crop_diseases": TransferSet("CropDiseases", CD, "archive:crop_diseases", 38, FIFTH, TRAIN_TEST,
                               {"train": 43456, "test": 10849}, pool=("train", "validation")),
  "eurosat": TransferSet("EuroSAT", CD, "tfds:eurosat/rgb", 10, SEVEN_TENTHS, ALL,
                         {"train": 27000}),
  "isic": TransferSet("ISIC 2018", CD, "archive:isic", 7, SEVEN_TENTHS, ALL, {"train": 10015}),
  "chest_x": TransferSet("ChestX-ray", CD, "archive:chest_x", 7, SEVEN_TENTHS, ALL,
                         {"train": 25848}),
  "deep_weeds": TransferSet("DeepWeeds", B, "tfds:deep_weeds", 9, SEVEN_TENTHS, ALL,
                            {"train": 17509}),
  "kaokore": TransferSet("Kaokore", B, "archive:kaokore", 8, FIFTH, TRAIN_TEST, {},
                         note="6568 images in train and test; their shares are those of labels.csv"
                              ", and its dev images are not used"),
  "omniglot": TransferSet("Omniglot, evaluation alphabets", B, "archive:omniglot", 659,
                          SEVEN_TENTHS, ALL, {"train": 13180},
                          note="the paper's head has 1623 outputs, of which 659 occur"),
  "resisc45": TransferSet("RESISC45", B, "archive:resisc45", 45, SEVEN_TENTHS, ALL,
                          {"train": 31500}),
  "sketch": TransferSet("ImageNet-Sketch", B, "archive:imagenet_sketch", 1000, SEVEN_TENTHS,
                        {"train": "test"}, {"train": 50889}),
  "svhn": TransferSet("SVHN", B, "tfds:svhn_cropped", 10, FIFTH, TRAIN_TEST,
                      {"train": 73257, "test": 26032}),
  "imagenet": TransferSet("ImageNet-1k", ("robustness",), "tfds:imagenet2012", 1000, FIFTH,
                          {"train": "train", "test": "validation"},
                          {"train": 1281167, "test": 50000}, pool=()),
  "imagenet_v2": _shifted("ImageNet-V2, matched frequency",
                          "tfds:imagenet_v2/matched-frequency", 1000, 10000),
  "imagenet_v2_threshold": _shifted("ImageNet-V2, threshold 0.7", "tfds:imagenet_v2/threshold-0.7",
                                    1000, 10000),
  "imagenet_v2_top": _shifted("ImageNet-V2, top images", "tfds:imagenet_v2/topimages", 1000,
                              10000),
  "imagenet_r": _shifted("ImageNet-R", "tfds:imagenet_r", 1000, 30000, restricted=True,
                         note="200 of the classes occur; the prediction is among those"),
  "imagenet_sketch": _shifted("ImageNet-Sketch, unseen", "archive:imagenet_sketch", 1000, 50889),
  "objectnet": _shifted("ObjectNet", "archive:objectnet", 113, 50273,
                        note="images of the other 200 objects are left out; a prediction is right "
                             "if it is any of the ImageNet classes of the object"),
  "fashion_mnist_mini": TransferSet(
      "Fashion-MNIST, bundled part", ("offline",), "bundled:fashion_mnist_mini", 10, FIFTH,
      TRAIN_TEST, {"train": 10000, "test": 2000}),
  "digits": TransferSet("UCI digits", ("offline",), "bundled:digits", 10, SEVEN_TENTHS, ALL,
                        {"train": 1797}),
  "mnist_5k": TransferSet("MNIST-5k", ("offline",), "archive:mnist_5k", 10, SEVEN_TENTHS, ALL,
                          {"train": 5000}),
  "composed": TransferSet("Composed", ("offline",), "tfds:composed", 10, OFFICIAL, THREE,
                          {"train": 10000, "validation": 1000, "test": 2000}),
}
OFFLINE = tuple(name for name, s in SETS.items() if "offline" in s.papers)


def held_out_fifth(count: int) -> tuple[np.ndarray, np.ndarray]:
  """Rows i32 of (train, validation): validation is the first fifth of a shuffle.

  Ericsson et al. 2021 (code): floor(0.2 N) of a list shuffled by numpy's legacy generator with seed
  0. The rows count in the order of the images, which TFDS and the original files do not share.
  """
  order = np.arange(count, dtype=np.int32)
  np.random.RandomState(0).shuffle(order)
  held = int(0.2 * count)
  return order[held:], order[:held]


def seven_tenths(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Rows i32 of (train, test): int(0.7 n) images of each class in train, the others in test.

  Islam et al. 2021 (code): one RandomState(0) shuffles class after class, in the order in which
  their labels first occur.
  """
  generator = np.random.RandomState(0)
  train, test = [], []
  for label in dict.fromkeys(labels[labels >= 0].tolist()):
    rows = np.flatnonzero(labels == label).astype(np.int32)
    generator.shuffle(rows)
    count = int(0.7 * len(rows))
    train.append(rows[:count])
    test.append(rows[count:])
  return np.concatenate(train), np.concatenate(test)


class Parts(NamedTuple):
  """An opened set: its parts as sources, the rows that the rule chose, and what is odd."""

  sources: dict[str, Source]
  rows: dict[str, np.ndarray]
  warnings: list[str]


def find(name: str) -> TransferSet:
  """The row of the table. Raises a UserError for a name that it lacks."""
  if name not in SETS:
    raise UserError(f"transfer set {name!r} is not known; {nearest(name, SETS)}")
  return SETS[name]


def open_parts(name: str, data_dir: str | os.PathLike | None = None) -> Parts:
  """Opens a set and divides it by its rule.

  Raises:
    UserError: The set is not in the table, or its data is not there.
  """
  entry = find(name)
  sources = {part: open_source(entry.spec, split, data_dir=data_dir)
             for part, split in entry.splits.items()}
  warnings = differences(entry, sources)
  rows = {}
  if entry.rule == SEVEN_TENTHS:
    first, rows["test"] = seven_tenths(labels_of(sources["train"].records))
    train, held = held_out_fifth(len(first))
    rows |= {"train": first[train], "validation": first[held]}
  elif entry.rule == FIFTH:
    rows["train"], rows["validation"] = held_out_fifth(len(sources["train"]))
  whole = sources.get("train")
  return Parts(sources | {part: choose(whole, chosen, part) for part, chosen in rows.items()},
               rows, warnings)


def choose(source: Source, rows: Sequence[int], what: str) -> Source:
  """The images of a source at some rows, in that order."""
  return dataclasses.replace(
      source, records=Chosen(source.records, [int(row) for row in rows]),
      fingerprint=f"{what} {len(rows)} of {source.fingerprint}")


def differences(entry: TransferSet, sources: dict[str, Source]) -> list[str]:
  """In what an opened set is not as the table says, one sentence each."""
  found = [f"{part} has {len(sources[part])} images, {count} are published"
           for part, count in entry.sizes.items() if len(sources[part]) != count]
  classes = len(next(iter(sources.values())).class_names)
  if classes != entry.classes:
    found.append(f"it has {classes} classes, {entry.classes} are published")
  return found + ([entry.note] if entry.note else [])


def labels_of(records: Records) -> np.ndarray:
  """The label i32 of every image, -1 where there is none; reads, but decodes no image."""
  classes = (records.classes(i) for i in range(len(records)))
  return np.array([c[0] if len(c) == 1 else -1 for c in classes], np.int32)


def targets_of(records: Records, num_classes: int) -> np.ndarray:
  """bool[N, C], the classes of every image."""
  target = np.zeros((len(records), num_classes), bool)
  for i in range(len(records)):
    target[i, list(records.classes(i))] = True
  return target
