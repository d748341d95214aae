"""What a frozen encoder is worth: functions of features and labels."""

from ssl_jax.evaluate.collapse import feature_std, rank_me
from ssl_jax.evaluate.features import extract
from ssl_jax.evaluate.knn import knn
from ssl_jax.evaluate.linear import few_label_probe, linear_probe
from ssl_jax.evaluate.logistic import logistic_regression

__all__ = [
  "extract",
  "feature_std",
  "few_label_probe",
  "knn",
  "linear_probe",
  "logistic_regression",
  "rank_me",
]
