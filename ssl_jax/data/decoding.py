"""From an encoded image, or an array, to an RGB array and to a square canvas.

JPEG is decoded by simplejpeg (libjpeg-turbo, which gives Pillow's pixels at two to three times
its speed); everything else, and what simplejpeg refuses, is decoded by Pillow. Modes become RGB as
Pillow's `convert("RGB")` makes them, which is what torchvision's loader does: grey is replicated,
and transparency is dropped, not composited. Three things differ from that loader: EXIF rotation is
applied, 16-bit images are scaled to 8 bits (Pillow clips them to white), and an image of more
pixels than Pillow calls a decompression bomb is refused.
"""

import contextlib
import io

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

MAX_PIXELS = 89_478_485  # Pillow's Image.MAX_IMAGE_PIXELS: a quarter of a GiB of RGB
# An image is decoded at no less than twice the canvas before it is resized: the `reducing_gap` of
# Pillow's Image.thumbnail, beyond which the result is hardly told from a full decode.
REDUCING_GAP = 2


class UnreadableError(Exception):
  """This image cannot be decoded; the message says why, in one line."""


def decode(image: bytes | np.ndarray) -> np.ndarray:
  """Decodes an image.

  Args:
    image: An encoded image, or u8[H,W], u8[H,W,1], u8[H,W,3] or u8[H,W,4].

  Returns:
    u8[H,W,3], upright.

  Raises:
    UnreadableError: It is no image, is truncated, or has more than `MAX_PIXELS` pixels.
  """
  return _decode(image, at_least=0)[0]


def to_canvas(image: bytes | np.ndarray, canvas: int) -> tuple[np.ndarray, tuple[int, int]]:
  """Decodes an image and squashes it onto a square, with antialiasing and without cropping.

  Args:
    image: As for `decode`.
    canvas: The side S of the square, in pixels.

  Returns:
    u8[S,S,3], and the (height, width) that the image had before, upright. An image that is S by S
    already is returned as it is.
  """
  pixels, size = _decode(image, at_least=REDUCING_GAP * canvas)
  if pixels.shape[:2] == (canvas, canvas):
    return pixels, size
  resized = Image.fromarray(pixels).resize((canvas, canvas), Image.Resampling.BILINEAR)
  return np.asarray(resized), size


def mask_to_canvas(mask: bytes | np.ndarray, canvas: int) -> np.ndarray:
  """Decodes a mask and squashes it like its image: encoded or u8[H,W] -> u8[S,S].

  Raises:
    UnreadableError: It is no image.
  """
  pixels = Image.fromarray(_decode(mask, at_least=0)[0][..., 0])
  return np.asarray(pixels.resize((canvas, canvas), Image.Resampling.BILINEAR))


def _decode(image: bytes | np.ndarray, at_least: int) -> tuple[np.ndarray, tuple[int, int]]:
  """Returns the pixels, of height and width `at_least` if that is not 0, and the full size."""
  if isinstance(image, np.ndarray):
    pixels = _rgb(image)
    return pixels, pixels.shape[:2]
  if simplejpeg.is_jpeg(image):
    # libjpeg's warnings are errors to simplejpeg; Pillow tolerates what can be shown.
    with contextlib.suppress(ValueError):
      return _decode_jpeg(image, at_least)
  return _decode_pillow(image)


def _rgb(array: np.ndarray) -> np.ndarray:
  if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
    raise UnreadableError(f"an array of {array.dtype}{list(array.shape)} is no 8-bit image")
  if array.ndim == 2:
    array = array[..., None]
  if array.shape[-1] == 1:
    return np.repeat(array, 3, axis=-1)
  if array.shape[-1] not in (3, 4):
    raise UnreadableError(f"an image of {array.shape[-1]} channels; 1, 3 or 4 are read")
  return array[..., :3]


def _decode_jpeg(data: bytes, at_least: int) -> tuple[np.ndarray, tuple[int, int]]:
  height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
  _check_size(height, width)
  if colorspace in ("CMYK", "YCCK"):
    return _decode_pillow(data)  # Adobe's inverted inks are Pillow's business
  if at_least:
    pixels = simplejpeg.decode_jpeg(
        data, "RGB", min_height=at_least, min_width=at_least, min_factor=2)
  else:
    pixels = simplejpeg.decode_jpeg(data, "RGB")
  turn = _ORIENTATION.get(_exif_orientation(data))
  if turn is None:
    return pixels, (height, width)
  turned = np.ascontiguousarray(turn(pixels))
  swapped = turn(np.empty((1, 2))).shape == (2, 1)
  return turned, ((width, height) if swapped else (height, width))


# EXIF 2.3, tag 0x0112: what to do to the stored rows and columns so that the image stands upright.
_ORIENTATION = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def _exif_orientation(data: bytes) -> int:
  if data.find(b"Exif\0\0", 0, 65536) < 0:
    return 1
  try:
    return Image.open(io.BytesIO(data)).getexif().get(0x0112, 1)
  except Exception:  # a broken EXIF block does not make the image unreadable
    return 1


def _decode_pillow(data: bytes) -> tuple[np.ndarray, tuple[int, int]]:
  try:
    with Image.open(io.BytesIO(data)) as opened:
      _check_size(opened.height, opened.width)
      upright = ImageOps.exif_transpose(opened)
      if upright.mode.startswith("I") or upright.mode == "F":
        pixels = _rgb(_eight_bits(np.asarray(upright)))
      else:
        pixels = np.asarray(upright.convert("RGB"))
  except UnreadableError:
    raise
  except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, and more
    reason = "no image format that Pillow knows" if "cannot identify" in str(error) else error
    raise UnreadableError(" ".join(str(reason).split()) or type(error).__name__) from error
  return pixels, pixels.shape[:2]


def _eight_bits(values: np.ndarray) -> np.ndarray:
  if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
    raise UnreadableError("its pixels are neither 8 nor 16 bits wide; convert it to 8 bits")
  return (values.astype(np.uint32) >> 8).astype(np.uint8)


def _check_size(height: int, width: int) -> None:
  if height * width > MAX_PIXELS:
    raise UnreadableError(
        f"{width} x {height} pixels are more than {MAX_PIXELS}: a decompression bomb, or an image "
        "to be made smaller first")
