"""A colour set with masks: real photographic cut-outs pasted on real photographs.

    python -m ssl_jax.data.composed --out DIR
    python -m ssl_jax.main --config configs/X.py --config.data=tfds:composed --config.data_dir=DIR

The pictures come from Debian packages and are GPL-2: the set is made where it is used.
"""
