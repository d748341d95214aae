"""Sources of images, and the host batches made of them. No flax, optax or TensorFlow."""

from ssl_jax.data.batches import Pipeline, epoch, pipeline
from ssl_jax.data.decoding import UnreadableError, decode, to_canvas
from ssl_jax.data.foregrounds import with_masks
from ssl_jax.data.loading import load_all, resident_bytes
from ssl_jax.data.source import Skipped, Source, divide, open_source, sample

__all__ = ["Pipeline", "Skipped", "Source", "UnreadableError", "decode", "divide", "epoch",
           "load_all", "open_source", "pipeline", "resident_bytes", "sample", "to_canvas",
           "with_masks"]
