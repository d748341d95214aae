"""A pickle reader that executes nothing a file asks for.

A pickle is a program: it names functions and has them called. This reader knows a short list of
harmless ones. A few of those make what they promise (a dictionary, a numpy array, a tensor as a
view of the file); the records of training frameworks that lie beside the weights become `Inert`
objects, which take whatever they are given and do nothing. Every other name is refused.
"""

import collections
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from ssl_jax.errors import UserError


class Inert:
  """Stands for an object of a class that is not needed: accepts everything, keeps nothing."""

  def __init__(self, *args, **kwargs):
    pass

  def __setstate__(self, state):
    pass

  def __setitem__(self, key, value):
    pass

  def append(self, value):
    pass

  def extend(self, values):
    pass


class Dtype:
  """numpy.dtype: made of a code such as f4, then told its byte order."""

  def __init__(self, code: str, *_):
    self.value = np.dtype(code)
    if self.value.hasobject:
      raise pickle.UnpicklingError("arrays of objects")

  def __setstate__(self, state):
    if state[1] in ("<", ">"):
      self.value = self.value.newbyteorder(state[1])


class Array:
  """A numpy array in the making: `value` is there once it has its state."""

  value: np.ndarray | None = None

  def __init__(self, *_):
    pass

  def __setstate__(self, state):
    _, shape, dtype, fortran, data = state
    data = data.encode("latin1") if isinstance(data, str) else data  # str: written by Python 2
    self.value = np.frombuffer(data, dtype.value).reshape(shape, order="F" if fortran else "C")


def _from_buffer(data, dtype, shape, order, axes=None) -> Array:
  """An array by protocol 5; order K: stored with its axes in another order."""
  array = Array()
  flat = np.frombuffer(data, dtype.value)
  array.value = flat.reshape(shape, order=order) if order != "K" else (
      flat.reshape(shape).transpose(axes))
  return array


def _jax_array(function, args, state, aval_state) -> Array:
  """A jax.Array is pickled as the numpy array that it holds."""
  del function, args, aval_state
  array = Array()
  array.__setstate__(state)
  return array


def _scalar(dtype: Dtype, data=b"\0" * 16):
  data = data.encode("latin1") if isinstance(data, str) else data
  return np.frombuffer(data, dtype.value)[0]


def _latin1(text: str, encoding: str) -> bytes:
  """`_codecs.encode`, in which protocol 2 wraps bytes; for that encoding alone."""
  if encoding != "latin1":
    raise pickle.UnpicklingError(f"codec {encoding!r}")
  return text.encode("latin1")


class ExperimentState:
  """The record of a run of BYOL and its family, as a dictionary; it is pickled by position.

  deepmind-research, byol/byol_experiment.py.
  """

  def __new__(cls, *fields):
    return dict(zip(("online_params", "target_params", "online_state", "target_state"), fields))


def _dictionary(*args) -> dict:
  return dict(args[0]) if args and isinstance(args[0], Mapping | list) else {}


# What is made, by the full name that a file gives it.
MADE: dict[str, Callable] = {
    "collections.OrderedDict": collections.OrderedDict,
    **dict.fromkeys((
        "builtins.dict", "collections.defaultdict", "collections.Counter",
        "haiku._src.data_structures.FlatMapping", "haiku._src.data_structures.FlatMap",
        "haiku._src.data_structures.frozendict"), _dictionary),
    "builtins.list": list, "builtins.set": set, "builtins.tuple": tuple, "builtins.int": int,
    "builtins.float": float,
    "_codecs.encode": _latin1,
    "numpy.dtype": Dtype,
    "jax._src.array._reconstruct_array": _jax_array,
    **{f"numpy.{core}.{name}": made for core in ("core", "_core") for name, made in (
        ("multiarray._reconstruct", Array), ("multiarray.scalar", _scalar),
        ("numeric._frombuffer", _from_buffer))},
}

# What lies beside the weights of published checkpoints, and becomes Inert.
IGNORED = re.compile(r"""
    numpy\.ndarray | argparse\.Namespace | pathlib\.\w*Path | datetime\.\w+ | uuid\.UUID
  | torch\.(Size|device|dtype|strided|channels_last|contiguous_format|u?int\d+|float\d*|bfloat16
      |long|half|double|bool) | torch\.(cuda\.)?\w+Storage | torch\.storage\.\w+
  | torch\.Tensor | torch\.nn\.parameter\.\w+ | torch\._utils\._rebuild_\w+
  | torch\.(optim|cuda\.amp|amp)\.[\w.]+
  | omegaconf\.[\w.]+ | (pytorch_)?lightning(_fabric|_utilities)?\.[\w.]+
  | classy_vision\.[\w.]+ | vissl\.[\w.]+ | yacs\.config\.CfgNode | typing\.Any
  | optax\.[\w.]+State | (byol|relicv2)\.utils\.\w+\.\w+State
""", re.VERBOSE)
STATES = re.compile(r"[\w.]*experiment\._?\w*ExperimentState")


class RestrictedUnpickler(pickle.Unpickler):
  """Unpickles data only.

  Args:
    file: The pickle; what follows it is left unread.
    where: What to call it in errors.
    made: Further callables by their full names.
    persistent: What a persistent id stands for; without it, none may occur.
  """

  def __init__(self, file: BinaryIO, where: str, *, made: Mapping[str, Callable] | None = None,
               persistent: Callable[[Any], Any] | None = None):
    super().__init__(file, encoding="latin1")
    self.where = where
    self.made = MADE | dict(made or {})
    self.persistent = persistent

  def find_class(self, module: str, name: str) -> Any:
    """The harmless callable of that name. Raises a UserError for any other."""
    full = f"{module}.{name}".replace("__builtin__.", "builtins.", 1)
    if full in self.made:
      return self.made[full]
    if STATES.fullmatch(full):
      return ExperimentState
    if IGNORED.fullmatch(full):
      return type(name, (Inert,), {})
    raise UserError(f"{self.where} asks for {full!r}, which is not among the names that a "
                    "checkpoint may use; nothing of it was run: save it again as plain tensors")

  def persistent_load(self, pid: Any) -> Any:
    """What a persistent id stands for."""
    if self.persistent is None:
      raise pickle.UnpicklingError("a persistent id")
    return self.persistent(pid)


def unpickle(file: BinaryIO, where: str, **options) -> Any:
  """The next object of a file of pickles; `options` are those of `RestrictedUnpickler`.

  Raises:
    UserError: It is damaged, or asks for what is not allowed.
  """
  try:
    return RestrictedUnpickler(file, where, **options).load()
  except UserError:
    raise
  except Exception as error:  # a damaged pickle raises any type at all
    reason = (str(error).splitlines() or [""])[0][:120]
    raise UserError(f"{where} cannot be read as a pickle ({type(error).__name__}: {reason}); fetch "
                    "the file again") from error


def settled(tree: Any, seen: dict | None = None) -> Any:
  """The nested dictionaries of `tree` with their arrays finished. Each is visited once."""
  seen = {} if seen is None else seen
  if isinstance(tree, Array):
    return tree.value
  if not isinstance(tree, Mapping):
    return tree
  if id(tree) not in seen:
    seen[id(tree)] = new = {}
    new.update((key, settled(value, seen)) for key, value in tree.items())
  return seen[id(tree)]


def read_pickle(path) -> dict[str, Any]:
  """A pickle file without tensors of PyTorch, such as Haiku's and Detectron2's."""
  with open(path, "rb") as file:
    return settled(unpickle(file, str(path)))
