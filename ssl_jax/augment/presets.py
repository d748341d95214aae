"""The papers' views by name: `preset(name, size=...) -> {view name: View}`.

A method that wants two views calls them "a" and "b"; supervised training and evaluation have "a".
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial

from ssl_jax.augment.blur import random_blur, random_blur_extended
from ssl_jax.augment.crop import (
    center_box_byol,
    center_box_simclr,
    center_crop,
    random_flip,
    random_resized_crop,
    random_resized_crop_byol,
    random_resized_crop_tf,
    resize_and_center_crop,
)
from ssl_jax.augment.jitter import (
    random_jitter_byol,
    random_jitter_simclr,
    random_jitter_torchvision,
)
from ssl_jax.augment.photometric import clip, normalise, solarise, to_greyscale
from ssl_jax.augment.resample import bicubic, bicubic_antialias
from ssl_jax.augment.strong import random_strong
from ssl_jax.augment.views import Op, View, chain, keyless, sometimes
from ssl_jax.errors import UserError, nearest

Floats = Sequence[float]
Named = dict[str, View]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
# CLSA's views: sevenths of the size, and the ratio of the area to the largest view's, as released.
CLSA_SCALES = ((7, 1.0), (6, 0.86), (5, 0.715), (4, 0.571), (3, 0.429))


def _colour(jitter, probability, strength, brightness, contrast, saturation, hue) -> Op:
  """Colour jitter with a probability; strength 0 leaves it out."""
  return sometimes(probability if strength else 0, partial(
      jitter, brightness=brightness * strength, contrast=contrast * strength,
      saturation=saturation * strength, hue=hue * strength))


def _grey(probability) -> Op:
  return sometimes(probability, keyless(to_greyscale))


def _simclr(jitter, *, size, strength, min_area, blur, mean, std) -> Named:
  view = chain(
      partial(random_resized_crop_tf, size=size, area=(min_area, 1.0)),
      random_flip,
      _colour(jitter, 0.8, strength, 0.8, 0.8, 0.8, 0.2),
      _grey(0.2),
      keyless(clip),  # the crop's overshoot, where neither jitter nor greyscale cut it off
      sometimes(blur, random_blur),
      keyless(normalise, mean=mean, std=std))
  return {"a": view, "b": view}


def simclr(
    *, size: int, strength: float = 1.0, min_area: float = 0.08, blur: float = 0.5,
    mean: Floats = ZERO, std: Floats = ONE,
) -> Named:
  """SimCLR as released (v2: multiplicative brightness); Chen et al., 2002.05709, 2006.10029.

  Crop -> flip -> jitter (0.8, 0.8, 0.8, 0.2 times `strength`) with probability 0.8 -> grey 0.2 ->
  blur with probability `blur`. Pixels stay in [0, 1]. CIFAR: strength 0.5 and blur 0.
  """
  return _simclr(random_jitter_simclr, size=size, strength=strength, min_area=min_area, blur=blur,
                 mean=mean, std=std)


def simclr_v1(
    *, size: int, strength: float = 1.0, min_area: float = 0.08, blur: float = 0.5,
    mean: Floats = ZERO, std: Floats = ONE,
) -> Named:
  """SimCLR's first version: `simclr` with additive brightness; Chen et al., 2002.05709."""
  return _simclr(random_jitter_byol, size=size, strength=strength, min_area=min_area, blur=blur,
                 mean=mean, std=std)


def moco_v1(
    *, size: int, strength: float = 1.0, min_area: float = 0.2, mean: Floats = IMAGENET_MEAN,
    std: Floats = IMAGENET_STD,
) -> Named:
  """MoCo v1: crop -> grey 0.2 -> jitter (0.4 four times), always -> flip; He et al., 1911.05722."""
  view = chain(
      partial(random_resized_crop, size=size, area=(min_area, 1.0)),
      _grey(0.2),
      _colour(random_jitter_torchvision, 1.0, strength, 0.4, 0.4, 0.4, 0.4),
      random_flip,
      keyless(normalise, mean=mean, std=std))
  return {"a": view, "b": view}


def _moco_v2(*, size, area, strength, blur, mean, std, strong: Op | None = None) -> View:
  return chain(
      partial(random_resized_crop, size=size, area=area),
      _colour(random_jitter_torchvision, 0.8, strength, 0.4, 0.4, 0.4, 0.1),
      _grey(0.2),
      sometimes(blur, random_blur_extended),
      random_flip,
      *([strong] if strong else []),
      keyless(normalise, mean=mean, std=std))


def moco_v2(
    *, size: int, strength: float = 1.0, min_area: float = 0.2, blur: float = 0.5,
    mean: Floats = IMAGENET_MEAN, std: Floats = IMAGENET_STD,
) -> Named:
  """MoCo v2: crop -> jitter (0.4, 0.4, 0.4, 0.1) 0.8 -> grey 0.2 -> blur 0.5 -> flip; 2003.04297.

  Pillow's Gaussian is three box blurs; here it is a Gaussian cut at 3 sigma.
  """
  view = _moco_v2(size=size, area=(min_area, 1.0), strength=strength, blur=blur, mean=mean, std=std)
  return {"a": view, "b": view}


def moco_v2_strong(
    *, size: int, strength: float = 1.0, min_area: float = 0.2, blur: float = 0.5, draws: int = 5,
    probability: float = 0.5, mean: Floats = IMAGENET_MEAN, std: Floats = IMAGENET_STD,
) -> Named:
  """MoCo v2 whose query, "a", is augmented strongly too: what CLSA is compared with."""
  view = partial(_moco_v2, size=size, area=(min_area, 1.0), strength=strength, blur=blur,
                 mean=mean, std=std)
  return {"a": view(strong=partial(random_strong, draws=draws, probability=probability)),
          "b": view()}


def clsa_single(
    *, size: int, strength: float = 1.0, min_area: float = 0.2, blur: float = 0.5, draws: int = 5,
    probability: float = 0.5, mean: Floats = IMAGENET_MEAN, std: Floats = IMAGENET_STD,
) -> Named:
  """CLSA: key and weak0 of `size` pixels as in `moco_v2`, strong0 of 3/7 of it; 2104.07713, code.

  After the same operations a strong view gets `random_strong`. A smaller view's area is smaller by
  its ratio: of 0.086 to 0.429 of the image for 96 of 224 pixels, as released.
  """
  return _clsa(weak=CLSA_SCALES[:1], strong=CLSA_SCALES[-1:], size=size, strength=strength,
               min_area=min_area, blur=blur, draws=draws, probability=probability, mean=mean,
               std=std)


def clsa_multi(
    *, size: int, strength: float = 1.0, min_area: float = 0.2, blur: float = 0.5, draws: int = 5,
    probability: float = 0.5, mean: Floats = IMAGENET_MEAN, std: Floats = IMAGENET_STD,
) -> Named:
  """CLSA*: key, weak0 to weak4 and strong0 to strong4 of 7/7, 6/7, ... 3/7 of `size`; 2104.07713.

  224, 192, 160, 128 and 96 pixels; all else as in `clsa_single`.
  """
  return _clsa(weak=CLSA_SCALES, strong=CLSA_SCALES, size=size, strength=strength,
               min_area=min_area, blur=blur, draws=draws, probability=probability, mean=mean,
               std=std)


def _clsa(*, weak, strong, size, min_area, draws, probability, **settings) -> Named:
  def view(scale, strong=None):
    sevenths, ratio = scale
    return _moco_v2(size=round(size * sevenths / 7), area=(round(min_area * ratio, 3), ratio),
                    strong=strong, **settings)

  strongly = partial(random_strong, draws=draws, probability=probability)
  return {"key": view(CLSA_SCALES[0]),
          **{f"weak{i}": view(scale) for i, scale in enumerate(weak)},
          **{f"strong{i}": view(scale, strongly) for i, scale in enumerate(strong)}}


def moco_v3(
    *, size: int, strength: float = 1.0, min_area: float = 0.2, blur: Floats = (1.0, 0.1),
    solarised: Floats = (0.0, 0.2), mean: Floats = IMAGENET_MEAN, std: Floats = IMAGENET_STD,
) -> Named:
  """MoCo v3: BYOL's T and T' of torchvision's operations; Chen et al., 2104.02057, code.

  Crop -> jitter (0.4, 0.4, 0.2, 0.1) 0.8 -> grey 0.2 -> blur -> solarise -> flip. `min_area` is
  0.2 with a ResNet, 0.08 with a ViT.
  """
  def view(i):
    return chain(
        partial(random_resized_crop, size=size, area=(min_area, 1.0)),
        _colour(random_jitter_torchvision, 0.8, strength, 0.4, 0.4, 0.2, 0.1),
        _grey(0.2),
        sometimes(blur[i], random_blur_extended),
        sometimes(solarised[i], keyless(solarise)),
        random_flip,
        keyless(normalise, mean=mean, std=std))
  return {"a": view(0), "b": view(1)}


def _byol(*, size, area, strength, blur, solarised, mean, std) -> View:
  return chain(
      partial(random_resized_crop_byol, size=size, area=area),
      random_flip,
      _colour(random_jitter_byol, 0.8, strength, 0.4, 0.4, 0.2, 0.1),
      _grey(0.2),
      sometimes(blur, random_blur),
      sometimes(solarised, keyless(solarise)),
      keyless(clip),
      keyless(normalise, mean=mean, std=std))


def byol(
    *, size: int, strength: float = 1.0, min_area: float = 0.08, blur: Floats = (1.0, 0.1),
    solarised: Floats = (0.0, 0.2), mean: Floats = IMAGENET_MEAN, std: Floats = IMAGENET_STD,
) -> Named:
  """BYOL's T and T': `blur` and `solarised` hold the probabilities in each; 2006.07733.

  Crop -> flip -> jitter (0.4, 0.4, 0.2, 0.1) 0.8 -> grey 0.2 -> blur -> solarise.
  """
  return {name: _byol(size=size, area=(min_area, 1.0), strength=strength, blur=blur[i],
                      solarised=solarised[i], mean=mean, std=std) for i, name in enumerate("ab")}


def relicv2(
    *, size: int, small_size: int | None = None, large: int = 4, small: int = 2,
    strength: float = 1.0, large_area: Floats = (0.08, 1.0), small_area: Floats = (0.05, 0.14),
    blur: Floats = (1.0, 0.1), solarised: Floats = (0.0, 0.2), mean: Floats = IMAGENET_MEAN,
    std: Floats = IMAGENET_STD,
) -> Named:
  """ReLICv2: large0, large1, ... and small0, small1, ..., by BYOL's operations; 2201.05119.

  Large views have `size` pixels, small ones `small_size`: 96 for 224 and in proportion otherwise.
  Their areas, and that T and T' (as in `byol`) take turns, is unconfirmed by the release.
  """
  small_size = small_size or round(size * 96 / 224)
  kinds = (("large", large, size, large_area), ("small", small, small_size, small_area))
  return {f"{kind}{i}": _byol(size=pixels, area=tuple(area), strength=strength, blur=blur[i % 2],
                              solarised=solarised[i % 2], mean=mean, std=std)
          for kind, count, pixels, area in kinds for i in range(count)}


def supcon(
    *, size: int, strength: float = 1.0, min_area: float = 0.2, mean: Floats = CIFAR10_MEAN,
    std: Floats = CIFAR10_STD,
) -> Named:
  """SupContrast on CIFAR; Khosla et al., 2004.11362.

  Crop -> flip -> jitter (0.4, 0.4, 0.4, 0.1) 0.8 -> grey 0.2.
  """
  view = chain(
      partial(random_resized_crop, size=size, area=(min_area, 1.0)),
      random_flip,
      _colour(random_jitter_torchvision, 0.8, strength, 0.4, 0.4, 0.4, 0.1),
      _grey(0.2),
      keyless(normalise, mean=mean, std=std))
  return {"a": view, "b": view}


def _crop_flip(crop, *, size, min_area, mean, std) -> Named:
  return {"a": chain(partial(crop, size=size, area=(min_area, 1.0)), random_flip, keyless(clip),
                     keyless(normalise, mean=mean, std=std))}


def crop_flip(
    *, size: int, min_area: float = 0.08, mean: Floats = IMAGENET_MEAN, std: Floats = IMAGENET_STD
) -> Named:
  """Supervised training and linear probes of MoCo: torchvision's random crop, then flip."""
  return _crop_flip(random_resized_crop, size=size, min_area=min_area, mean=mean, std=std)


def crop_flip_byol(
    *, size: int, min_area: float = 0.08, mean: Floats = IMAGENET_MEAN, std: Floats = IMAGENET_STD
) -> Named:
  """Linear probe of BYOL: its random crop, then flip."""
  return _crop_flip(random_resized_crop_byol, size=size, min_area=min_area, mean=mean, std=std)


def crop_flip_simclr(
    *, size: int, min_area: float = 0.08, mean: Floats = ZERO, std: Floats = ONE
) -> Named:
  """Linear probe and fine-tuning of SimCLR: its random crop, then flip."""
  return _crop_flip(random_resized_crop_tf, size=size, min_area=min_area, mean=mean, std=std)


def _evaluation(crop, mean, std) -> Named:
  def view(key, image, extent):
    del key
    return normalise(crop(image, extent), mean, std)
  return {"a": view}


def center(
    *, size: int, proportion: float = 0.875, mean: Floats = IMAGENET_MEAN,
    std: Floats = IMAGENET_STD,
) -> Named:
  """torchvision's evaluation: shorter side to size / proportion, then the central square.

  224 / 0.875 = 256. Proportion 1 keeps the whole of a square image, as is usual at 32 pixels.
  """
  return _evaluation(partial(
      resize_and_center_crop, size=size, resize=round(size / proportion)), mean, std)


def center_bicubic(
    *, size: int, proportion: float = 1.0, mean: Floats = IMAGENET_MEAN,
    std: Floats = IMAGENET_STD,
) -> Named:
  """Linear transfer: the shorter side to size / proportion by Pillow's bicubic, then the centre.

  Ericsson, Gouk, Hospedales 2021, arXiv:2011.13377, appendix A.2: 224, and 224 of it.
  """
  return _evaluation(partial(
      resize_and_center_crop, size=size, resize=round(size / proportion),
      method=bicubic_antialias), mean, std)


def center_byol(
    *, size: int, proportion: float = 0.875, mean: Floats = IMAGENET_MEAN,
    std: Floats = IMAGENET_STD,
) -> Named:
  """BYOL's evaluation: the central square of side int(proportion * shorter side), then bicubic."""
  return _evaluation(partial(
      center_crop, size=size, box=partial(center_box_byol, proportion=proportion),
      method=bicubic), mean, std)


def center_simclr(
    *, size: int, proportion: float = 0.875, mean: Floats = ZERO, std: Floats = ONE
) -> Named:
  """SimCLR's evaluation: the central square of side round(proportion * shorter side), bicubic."""
  return _evaluation(partial(
      center_crop, size=size, box=partial(center_box_simclr, proportion=proportion),
      method=bicubic), mean, std)


PRESETS: dict[str, Callable[..., Named]] = {f.__name__: f for f in (
    simclr, simclr_v1, moco_v1, moco_v2, moco_v2_strong, moco_v3, clsa_single, clsa_multi, byol,
    relicv2, supcon, crop_flip, crop_flip_byol, crop_flip_simclr, center, center_bicubic,
    center_byol, center_simclr)}


def preset(name: str, **settings) -> Named:
  """`PRESETS[name](**settings)`.

  Raises:
    UserError: There is no such preset, or it has no such setting.
  """
  if name not in PRESETS:
    raise UserError(f"unknown views {name!r}; {nearest(name, PRESETS)}")
  known = inspect.signature(PRESETS[name]).parameters
  for setting, value in settings.items():
    if setting not in known:
      raise UserError(
          f"views {name!r} have no setting {setting!r} (it is {value!r}); "
          f"{nearest(setting, known)}")
  if "size" not in settings:
    raise UserError(f"views {name!r} need a size in pixels; give size=224, say")
  return PRESETS[name](**settings)
