"""Textures without end, from a key: for backgrounds that show nothing."""

import math

import jax
import jax.numpy as jnp

from ssl_jax.types import Array

WAVES = 8
WARP = 0.1  # how far a place is moved, as a share of the side


def texture(key: Array, size: int) -> Array:
  """A random texture f32[size, size, 3] in [0, 1]: coloured waves on a warped plane.

  t(x) = c_0 + sum_k c_k cos(2 pi f_k . (x + w(x)) + phase_k), where w is a slow wave, the
  directions are uniform and the frequencies log-uniform from 1 to size / 4 cycles per side.
  """
  keys = jax.random.split(key, 4)
  u = jax.random.uniform(keys[0], (WAVES, 3))
  angle, phase = 2 * math.pi * u[:, 0], 2 * math.pi * u[:, 1]
  cycles = jnp.exp(u[:, 2] * math.log(max(size / 4, 1)))
  light, hue = jnp.split(jax.random.normal(keys[1], (WAVES, 4)), (1,), axis=1)
  colours = 0.25 / math.sqrt(WAVES) * (light + 0.4 * hue)  # as photographs: more light than hue
  slow, shift = jax.random.uniform(keys[2], (2, 2), minval=-2, maxval=2)
  place = (jnp.arange(size) + 0.5) / size
  y, x = place[:, None], place[None, :]
  warp = WARP * jnp.sin(2 * math.pi * (slow[0] * y + slow[1] * x + shift[0]))
  y, x = y + warp, x + warp
  waves = jnp.cos(2 * math.pi * cycles * (jnp.sin(angle) * y[..., None]
                                          + jnp.cos(angle) * x[..., None]) + phase)
  mixed = jnp.einsum("hwk,kc->hwc", waves, colours, precision=jax.lax.Precision.HIGH)
  return jnp.clip(jax.random.uniform(keys[3], (3,)) + mixed, 0, 1)
