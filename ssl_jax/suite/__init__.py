"""The transfer suite: one encoder, many data sets, every protocol that each set allows."""

from ssl_jax.suite.running import run

__all__ = ["run"]
