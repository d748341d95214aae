"""The transfer suite: one encoder, many data sets, every protocol that each set allows."""

from ssl_jax.suite.running import run
from ssl_jax.suite.tuning import run as finetune

__all__ = ["finetune", "run"]
