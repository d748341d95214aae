"""What a frozen encoder is worth: functions of features and labels."""

from ssl_jax.evaluate.attention import attentive_diffusion, occlusion_map
from ssl_jax.evaluate.calibration import (
  calibration_error,
  fit_temperature,
  reliability,
  temperature_scaling,
)
from ssl_jax.evaluate.collapse import feature_std, rank_me
from ssl_jax.evaluate.features import extract
from ssl_jax.evaluate.geometry import alignment, class_distances, uniformity
from ssl_jax.evaluate.inversion import channel_errors, invert, perceptual_distance
from ssl_jax.evaluate.knn import knn
from ssl_jax.evaluate.linear import few_label_probe, linear_probe
from ssl_jax.evaluate.logistic import logistic_regression
from ssl_jax.evaluate.similarity import cka, minibatch_cka

__all__ = [
  "alignment",
  "attentive_diffusion",
  "calibration_error",
  "channel_errors",
  "cka",
  "class_distances",
  "extract",
  "feature_std",
  "few_label_probe",
  "fit_temperature",
  "invert",
  "knn",
  "linear_probe",
  "logistic_regression",
  "minibatch_cka",
  "occlusion_map",
  "perceptual_distance",
  "rank_me",
  "reliability",
  "temperature_scaling",
  "uniformity",
]
