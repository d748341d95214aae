"""What augmentation costs: milliseconds per 256 images for every operation and every view.

  python -m benchmarks.augmentation [--size 224] [--canvas 256] [--batch 256] [--json FILE]
  python -m benchmarks.augmentation --size 28 --rows "strong|moco_v2|clsa"

Runs on whatever device jax has; beside the time on the clock stands this process's processor time,
which on a busy CPU is the one to read. Each row is one jitted program over a batch: an operation
alone on f32 images (it then reads and writes memory that a whole view does not), each preset's
views from the stored uint8 images, and each scene on the stored images and their masks. `copy` is
the reading and writing of the images, the least that an operation can take.
"""

import argparse
import json
import re
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp

from ssl_jax import augment
from ssl_jax.augment import pillow, presets, scenes, strong, views
from ssl_jax.augment.photometric import clip

STRENGTHS = dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)


def operations(size: int) -> dict:
  """Name -> (key, image f32[size, size, 3]) -> image."""
  return {
      "copy": views.keyless(lambda image: image + 1),
      "flip": augment.random_flip,
      "jitter byol": partial(augment.random_jitter_byol, **STRENGTHS),
      "jitter simclr": partial(augment.random_jitter_simclr, **STRENGTHS),
      "jitter torchvision": partial(augment.random_jitter_torchvision, **STRENGTHS),
      "greyscale": views.keyless(augment.to_greyscale),
      "blur": augment.random_blur,
      "blur extended": augment.random_blur_extended,
      "solarise": views.keyless(augment.solarise),
      "normalise": views.keyless(
          augment.normalise, mean=presets.IMAGENET_MEAN, std=presets.IMAGENET_STD),
      "clip": views.keyless(clip),
      "strong": augment.random_strong,
      "strong by a switch": strong_by_switch,
  }


def strong_by_switch(key, image):
  """`augment.random_strong` as one would write it first: under `vmap` all fourteen, five times."""
  def branch(at):
    if at in (strong.AUTO_CONTRAST, strong.EQUALIZE):
      function = pillow.equalize if at == strong.EQUALIZE else pillow.auto_contrast
      return lambda image, draw: function(image, pillow.histogram(image))
    if at in (strong.ROTATE, strong.SHEAR_X, strong.SHEAR_Y, strong.TRANSLATE_X,
              strong.TRANSLATE_Y):
      return lambda image, draw: pillow.nearest(image, strong._map(image.shape, draw))
    return lambda image, draw: strong._computed(image, draw._replace(operation=at))

  def step(image, draw):
    return jax.lax.switch(draw.operation, [branch(at) for at in range(14)], image, draw), None

  levels = jnp.round(255 * image).astype(jnp.uint8)
  return jax.lax.scan(step, levels, augment.draw_strong(key))[0].astype(jnp.float32) / 255


def crops(size: int) -> dict:
  """Name -> (key, image u8[S, S, 3], extent) -> f32[size, size, 3]."""
  return {
      "crop torchvision": partial(augment.random_resized_crop, size=size),
      "crop byol": partial(augment.random_resized_crop_byol, size=size),
      "crop tf": partial(augment.random_resized_crop_tf, size=size),
  }


def preset_views(size: int) -> dict:
  """Name -> view; of a and b both where they differ, of weak0, weak1, ... the first."""
  rows = {}
  for name in presets.PRESETS:
    made = {letter: view for letter, view in presets.preset(name, size=size).items()
            if not re.search("[1-9]", letter)}
    for view, letter in {view: letter for letter, view in reversed(made.items())}.items():
      rows[f"view {name}" + (f" {letter}" if len(set(made.values())) > 1 else "")] = view
  return rows


def scene_rows() -> dict:
  """Name -> (key, batch with "mask") -> batch: what a scene costs for one view."""
  made = {f"scene dilo {name}": scenes.dilo(backgrounds=name)
          for name in ("grey", "images", "textures")}
  return made | {"scene remove_background": scenes.remove_background()}


def milliseconds(function, *arguments, seconds: float = 1.0) -> tuple[float, float]:
  """The median time of a call, and of the processor, from calls queued in groups of 5."""
  function = jax.jit(function)
  for _ in range(2):
    jax.block_until_ready(function(*arguments))
  times, busy = [], []
  end = time.perf_counter() + seconds
  while time.perf_counter() < end or len(times) < 3:
    start, before = time.perf_counter(), time.process_time()
    results = [function(*arguments) for _ in range(5)]
    jax.block_until_ready(results)
    times.append((time.perf_counter() - start) / 5)
    busy.append((time.process_time() - before) / 5)
  return 1e3 * statistics.median(times), 1e3 * statistics.median(busy)


def measure(size: int, canvas: int, batch: int, seconds: float = 1.0, chosen: str = ""
            ) -> tuple[dict[str, float], dict[str, float]]:
  """Row -> milliseconds per 256 images, on the clock and of the processor; prints them.

  Only rows whose name holds the regular expression `chosen`.
  """
  key = jax.random.key(0)
  images = jax.random.uniform(key, (batch, size, size, 3))
  stored = {"image": jax.random.randint(key, (batch, canvas, canvas, 3), 0, 256, jnp.uint8),
            "size": jnp.full((batch, 2), canvas, jnp.int32)}
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))
  rows = {name: (jax.vmap(op), keys, images) for name, op in operations(size).items()}
  views_of = crops(size) | preset_views(size)
  rows |= {name: (views.batched(view), key, stored) for name, view in views_of.items()}
  masked = stored | {"mask": stored["image"][..., 0]}
  rows |= {name: (scene, key, masked) for name, scene in scene_rows().items()}
  results, busy = {}, {}
  for name, call in rows.items():
    if re.search(chosen, name):
      results[name], busy[name] = (
          time * 256 / batch for time in milliseconds(*call, seconds=seconds))
      print(f"{name:24s} {results[name]:10.3f} ms, of the processor {busy[name]:10.3f} ms, "
            "/ 256 images", flush=True)
  return results, busy


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--size", type=int, default=224, help="pixels of a view")
  parser.add_argument("--canvas", type=int, help="pixels of a stored image; 8/7 of the view's")
  parser.add_argument("--batch", type=int, default=256, help="images in one call")
  parser.add_argument("--seconds", type=float, default=1.0, help="time spent on each row")
  parser.add_argument("--rows", default="", help="a regular expression of names; all rows")
  parser.add_argument("--json", help="file to write the figures to")
  arguments = parser.parse_args()
  canvas = arguments.canvas or round(arguments.size * 8 / 7)
  device = jax.devices()[0]
  print(f"{device.device_kind}, jax {jax.__version__}: {arguments.batch} images of "
        f"{canvas} pixels, views of {arguments.size}")
  results, busy = measure(arguments.size, canvas, arguments.batch, arguments.seconds,
                          arguments.rows)
  if arguments.json:
    with open(arguments.json, "w") as file:
      json.dump({"device": device.device_kind, "jax": jax.__version__, "size": arguments.size,
                 "canvas": canvas, "batch": arguments.batch,
                 "milliseconds_per_256_images": results,
                 "processor_milliseconds_per_256_images": busy}, file, indent=2)


if __name__ == "__main__":
  main()
