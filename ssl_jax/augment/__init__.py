"""Augmentation on the device: pure operations on one image, vmapped by `ssl_jax.augment.views`."""

from ssl_jax.augment.blur import (
    adjust_blur,
    adjust_blur_extended,
    random_blur,
    random_blur_extended,
)
from ssl_jax.augment.crop import (
    center_crop,
    flip,
    random_crop,
    random_flip,
    random_resized_crop,
    random_resized_crop_byol,
    random_resized_crop_tf,
    resize_and_center_crop,
    sample_box_byol,
    sample_box_tf,
    sample_box_torchvision,
)
from ssl_jax.augment.jitter import (
    Jitter,
    adjust_jitter_byol,
    adjust_jitter_simclr,
    adjust_jitter_torchvision,
    random_jitter_byol,
    random_jitter_simclr,
    random_jitter_torchvision,
)
from ssl_jax.augment.photometric import (
    adjust_brightness_additive,
    adjust_brightness_multiplicative,
    adjust_contrast_grey,
    adjust_contrast_per_channel,
    adjust_hue,
    adjust_saturation_grey,
    adjust_saturation_hsv,
    normalise,
    random_brightness_additive,
    random_brightness_multiplicative,
    random_contrast_grey,
    random_contrast_per_channel,
    random_hue,
    random_saturation_grey,
    random_saturation_hsv,
    solarise,
    to_greyscale,
)
from ssl_jax.augment.resample import (
    Box,
    bicubic,
    bicubic_antialias,
    bilinear,
    bilinear_antialias,
    crop_and_resize,
    resize_and_crop,
)
from ssl_jax.augment.strong import Draw, adjust_strong, draw_strong, random_strong

__all__ = [
    "Box", "Draw", "Jitter", "adjust_blur", "adjust_blur_extended", "adjust_brightness_additive",
    "adjust_brightness_multiplicative", "adjust_contrast_grey", "adjust_contrast_per_channel",
    "adjust_hue", "adjust_jitter_byol", "adjust_jitter_simclr", "adjust_jitter_torchvision",
    "adjust_saturation_grey", "adjust_saturation_hsv", "adjust_strong", "bicubic",
    "bicubic_antialias", "bilinear", "bilinear_antialias", "center_crop", "crop_and_resize",
    "draw_strong", "flip", "normalise", "random_blur", "random_blur_extended",
    "random_brightness_additive", "random_brightness_multiplicative", "random_contrast_grey",
    "random_contrast_per_channel", "random_crop", "random_flip", "random_hue", "random_jitter_byol",
    "random_jitter_simclr", "random_jitter_torchvision", "random_resized_crop",
    "random_resized_crop_byol", "random_resized_crop_tf", "random_saturation_grey",
    "random_saturation_hsv", "random_strong", "resize_and_center_crop", "resize_and_crop",
    "sample_box_byol", "sample_box_tf", "sample_box_torchvision", "solarise", "to_greyscale",
]
