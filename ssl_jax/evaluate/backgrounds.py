"""How much a classifier leans on backgrounds: the background challenge's figures."""

from collections.abc import Mapping

from ssl_jax.errors import UserError


def variant_split(split: str, variant: str) -> str:
  """The split of a test split's variant: ("test[:50%]", "only_fg") -> "test_only_fg[:50%]".

  Raises:
    UserError: It is a sum of splits.
  """
  if "+" in split:
    raise UserError(f"config.test_split is {split!r}, a sum; its variants need one split")
  name, bracket, part = split.partition("[")
  return f"{name}_{variant}{bracket}{part}"


def reliance(top1: Mapping[str, float]) -> dict[str, float]:
  """What is lost with the background, in percentage points.

  Xiao et al. 2020, arXiv:2006.09994: `top1_gap`, their BG-Gap, is the accuracy on backgrounds of
  the object's own class less that on backgrounds of other classes: the objects are the same, so it
  is the background that makes the difference. `top1_drop` is the accuracy on the images as they are
  less that on backgrounds of other classes.

  Args:
    top1: Percent for "original", "mixed_same" and "mixed_rand".
  """
  return {"top1_gap": top1["mixed_same"] - top1["mixed_rand"],
          "top1_drop": top1["original"] - top1["mixed_rand"]}
