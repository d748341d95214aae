"""Decoding against Pillow, and against what each format is known to get wrong."""

import io

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data import decoding as module
from ssl_jax.data.decoding import UnreadableError, decode, to_canvas


def scene(height=60, width=80, channels=3):
  """A smooth image whose corners differ, so that a turn, a flip or a swap shows."""
  y, x = np.mgrid[0:height, 0:width].astype(np.float32)
  planes = [255 * x / width, 255 * y / height, 127 + 120 * np.sin(x / 9 + y / 5), 255 * (x > 40)]
  return np.stack(planes[:channels], -1).astype(np.uint8)


def encode(image, format="png", mode=None, **options):
  data = io.BytesIO()
  image = image if isinstance(image, Image.Image) else Image.fromarray(image, mode)
  image.save(data, format, **options)
  return data.getvalue()


def pillow(data):
  return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


JPEG = encode(scene(), "jpeg", quality=90)


@pytest.mark.parametrize("data", [
    JPEG,
    encode(scene(), "jpeg", quality=70, subsampling=2, progressive=True),
    encode(scene()[..., 2], "jpeg"),
    encode(Image.fromarray(scene()).convert("CMYK"), "jpeg"),
    encode(scene()),
    encode(scene(channels=4)),
    encode(scene()[..., 2]),
    encode(Image.fromarray(scene()).convert("P")),
    encode(Image.fromarray(scene()).convert("1")),
    encode(Image.fromarray(scene(channels=4)).convert("LA")),
    encode(scene(), "webp", lossless=True), encode(scene(), "bmp"), encode(scene(), "gif"),
    encode(Image.fromarray(scene()).convert("CMYK"), "tiff"), encode(scene(), "ppm"),
], ids=["jpeg", "progressive", "grey-jpeg", "cmyk-jpeg", "png", "rgba", "grey", "palette", "bits",
        "grey-alpha", "webp", "bmp", "gif", "cmyk-tiff", "ppm"])
def test_every_format_and_mode_gives_the_pixels_of_pillow(data):
  pixels = decode(data)
  assert pixels.dtype == np.uint8 and pixels.shape == (60, 80, 3)
  np.testing.assert_array_equal(pixels, pillow(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["jpeg", "png"])
@pytest.mark.parametrize("canvas", [None, 40])
def test_exif_rotation_is_applied(orientation, format, canvas):
  stored = Image.fromarray(scene())
  back = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
          4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
          6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}
  upright = stored.transpose(back[orientation]) if orientation > 1 else stored
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = encode(stored, format, exif=exif, **({"quality": 98} if format == "jpeg" else {}))
  if canvas:
    pixels, size = to_canvas(data, canvas)
    assert size == (upright.height, upright.width)
    upright = upright.resize((canvas, canvas), Image.Resampling.BILINEAR)
  else:
    pixels = decode(data)
  assert pixels.shape == np.asarray(upright).shape
  assert np.abs(pixels.astype(int) - np.asarray(upright)).mean() < 4  # a JPEG's own error is 1


def test_sixteen_bits_are_scaled_and_not_clipped():
  wide = np.linspace(0, 65535, 60 * 80).reshape(60, 80).astype(np.uint16)
  pixels = decode(encode(Image.fromarray(wide)))
  np.testing.assert_array_equal(pixels[..., 0], wide >> 8)
  np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 1), (60, 80, 3), (60, 80, 4)])
def test_arrays_become_rgb(shape):
  array = np.resize(scene(channels=4)[..., :shape[2] if len(shape) == 3 else 1], shape)
  pixels = decode(array)
  planes = array.reshape(60, 80, -1)
  for channel in range(3):
    np.testing.assert_array_equal(pixels[..., channel],
                                  planes[..., channel if planes.shape[2] > 1 else 0])


@pytest.mark.parametrize(("data", "reason"), [
    (JPEG[:len(JPEG) // 2], "truncated"),
    (encode(scene())[:300], "truncated"),
    (b"this is no image", "no image format"),
    (b"", "no image format"),
    (JPEG[:4], "no image format"),
    (np.zeros((4, 4, 3), np.float32), "float32"),
    (np.zeros((4, 4, 2), np.uint8), "2 channels"),
    (np.zeros((0, 4, 3), np.uint8), "no 8-bit image"),
    (encode(np.ones((4, 4), np.float32), "tiff"), "convert it to 8 bits"),
], ids=["jpeg", "png", "text", "empty", "header", "float", "channels", "no-rows", "float-tiff"])
def test_what_cannot_be_read_says_why_in_one_line(data, reason):
  with pytest.raises(UnreadableError, match=reason) as error:
    decode(data)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("format", ["jpeg", "png"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch, format):
  monkeypatch.setattr(module, "MAX_PIXELS", 60 * 80 - 1)
  with pytest.raises(UnreadableError, match="80 x 60 pixels are more than 4799"):
    decode(encode(scene(), format))


def test_a_square_of_the_canvas_size_passes_untouched():
  image = scene(32, 32)
  pixels, size = to_canvas(image, 32)
  assert pixels is image or np.shares_memory(pixels, image)
  assert size == (32, 32)
  np.testing.assert_array_equal(to_canvas(encode(image), 32)[0], image)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (33, 17), (7, 5), (16, 400)])
def test_squashing_keeps_what_each_canvas_pixel_covers(height, width):
  image = scene(height, width)
  pixels, size = to_canvas(encode(image), 16)
  assert pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8 and size == (height, width)
  np.testing.assert_allclose(pixels.mean((0, 1)), image.mean((0, 1)), atol=4)


def test_squashing_is_antialiased():
  stripes = np.zeros((256, 256, 3), np.uint8)
  stripes[:, ::2] = 255  # point sampling would give pure black or white
  pixels, _ = to_canvas(stripes, 32)
  assert np.abs(pixels.astype(int) - 127).max() <= 8


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(monkeypatch):
  decoded = []
  full = module.simplejpeg.decode_jpeg
  monkeypatch.setattr(module.simplejpeg, "decode_jpeg",
                      lambda *args, **kwargs: decoded.append(full(*args, **kwargs)) or decoded[-1])
  rng = np.random.default_rng(0)
  coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
  large = coarse.resize((1600, 1200), Image.Resampling.BICUBIC)
  data = encode(large, "jpeg", quality=95)
  pixels, size = to_canvas(data, 64)
  whole = np.asarray(Image.fromarray(pillow(data)).resize((64, 64), Image.Resampling.BILINEAR))
  assert size == (1200, 1600) and [d.shape for d in decoded] == [(150, 200, 3)]
  assert np.abs(pixels.astype(int) - whole).mean() < 1.5


def test_what_libjpeg_only_warns_about_is_read():
  extraneous = JPEG[:-2] + b"\x00\x00\x00" + JPEG[-2:]
  np.testing.assert_array_equal(decode(extraneous), pillow(extraneous))
