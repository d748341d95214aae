"""What every kind of source opens to, before a split of it is chosen."""

from collections.abc import Callable
from typing import NamedTuple

from ssl_jax.data.records import Records


class Shelf(NamedTuple):
  """The splits of a source; each is opened when it is asked for.

  Attributes:
    splits: A split's name, and what opens its records.
    class_names: The names of labels 0, 1, ...; () if the source is unlabelled.
    image_shape: The (H, W) of all images, or None if it differs or is not known.
  """

  splits: dict[str, Callable[[], Records]]
  class_names: tuple[str, ...]
  image_shape: tuple[int, int] | None
