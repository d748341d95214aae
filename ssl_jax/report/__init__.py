"""One page about encoders that the transfer suite has judged: `python -m ssl_jax.report`."""

from ssl_jax.report.page import write_report

__all__ = ["write_report"]
