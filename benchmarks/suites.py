"""Which runs stand in which table of docs/results.md."""

from typing import NamedTuple

METHODS = ("simclr", "moco_v2", "byol", "supcon", "supervised")
# Rows that a claim of a paper stands on are run with three seeds.
CLAIMS = ("moco_v2", "moco_v2_strong", "clsa", "clsa_multi", "dilo_true", "dilo_rbd", "relic",
          "relic_no_kl", "relicv2", "relicv2_true")
COMPOSED = (*CLAIMS, "dilo_gs", "dilo_mbd", "dilo_mc", "dilo_learned", "relicv2_learned", "simclr",
            "byol", "moco_v3", "supervised", "supcon", "ce_selfsupcon", "supcon_selfsupcon")
LINEAR = {"linear": "linear", "knn": "k-NN", "few_label": "100 labels"}
SWAPPED = {"linear": "linear", "knn": "k-NN", "mixed_same": "own kind", "mixed_rand": "swapped",
           "drop": "drop", "gap": "gap"}


class Suite(NamedTuple):
  """Runs that stand in one table.

  Attributes:
    title: Its heading.
    config: A file of configs/, whose argument is a method.
    data: The spec of the images.
    seeds: One run of each row for each.
    rows: Arguments of that file.
    repeated: The rows that are run for more than the first seed; all by default.
    columns: Figure -> heading.
    swapped: Whether the encoder is judged on swapped backgrounds too.
  """

  title: str
  config: str
  data: str
  seeds: tuple[int, ...]
  rows: tuple[str, ...] = METHODS
  repeated: tuple[str, ...] | None = None
  columns: dict[str, str] = LINEAR
  swapped: bool = False


SUITES = {
    "bundled": Suite("Bundled images (10,000), the quickstart's network and budget",
                     "fashion", "bundled:fashion_mnist_mini", (0, 1, 2)),
    "full": Suite("Full Fashion-MNIST (60,000 images), the same network and number of steps",
                  "fashion", "tfds:fashion_mnist", (0,)),
    "full_resnet18": Suite("Full Fashion-MNIST, ResNet-18, 100 epochs, on an accelerator",
                           "fashion_r18", "tfds:fashion_mnist", (0,)),
    "composed": Suite("Composed scenes (10,000), held-out objects and backgrounds",
                      "composed", "tfds:composed/48px", (0, 1, 2), rows=COMPOSED, repeated=CLAIMS,
                      columns=SWAPPED, swapped=True),
}
