"""What JPEG does to an image, without the lossless part: DCT and quantisation on the device.

ITU-T T.81: YCbCr, chroma averaged over 2 x 2 pixels, blocks of 8 x 8, the example tables of its
annex K scaled by quality as libjpeg does.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.types import Array

LUMA = np.array([
  16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
  14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
  92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]).reshape(8, 8)
CHROMA = np.full((8, 8), 99)
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
DCT = np.array([[np.sqrt((1 if u == 0 else 2) / 8) * np.cos((2 * x + 1) * u * np.pi / 16)
                 for x in range(8)] for u in range(8)])
TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5],
                   [0.5, -0.418687589, -0.081312411]])
EXACT = jax.lax.Precision.HIGHEST


def degrade(image: Array, quality: Array) -> Array:
  """Compresses and decompresses f32[H, W, 3] in [0, 1]; quality f32[] from 1 to 100."""
  height, width = image.shape[:2]
  rows, columns = -height % 16, -width % 16
  pixels = jnp.pad(jnp.round(image * 255), ((0, rows), (0, columns), (0, 0)), "edge")
  ycc = jnp.round(jnp.einsum("hwc,dc->dhw", pixels, TO_YCC, precision=EXACT)
                  + jnp.array([0.0, 128.0, 128.0])[:, None, None])
  scale = jnp.where(quality < 50, jnp.floor(5000 / quality), 200 - 2 * quality)
  tables = [jnp.clip(jnp.floor((t * scale + 50) / 100), 1, 255) for t in (LUMA, CHROMA)]
  y = _quantised(ycc[0], tables[0])
  chroma = ycc[1:].reshape(2, ycc.shape[1] // 2, 2, -1, 2).mean(axis=(2, 4))
  cb, cr = (jnp.repeat(jnp.repeat(_quantised(c, tables[1]), 2, 0), 2, 1) - 128 for c in chroma)
  rgb = jnp.stack([y + 1.402 * cr, y - 0.344136286 * cb - 0.714136286 * cr, y + 1.772 * cb], -1)
  return jnp.clip(jnp.round(rgb), 0, 255)[:height, :width] / 255


def _quantised(plane, table):
  H, W = plane.shape
  blocks = plane.reshape(H // 8, 8, W // 8, 8) - 128
  found = jnp.einsum("ux,ixjy,vy->iujv", DCT, blocks, DCT, precision=EXACT)
  found = jnp.round(found / table[:, None]) * table[:, None]
  back = jnp.einsum("ux,iujv,vy->ixjy", DCT, found, DCT, precision=EXACT)
  return jnp.clip(jnp.round(back + 128), 0, 255).reshape(H, W)
