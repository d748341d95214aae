"""Encoders of others: read without their libraries, and strictly."""

from ssl_jax.convert.encoder import Encoder, Report
from ssl_jax.convert.loading import load

__all__ = ["Encoder", "Report", "load"]
