"""The parts of a report that are images: neighbours of queries, and the worst errors."""

from collections.abc import Sequence

import numpy as np

from ssl_jax import build, data, figures
from ssl_jax.checkpoint import load_encoder
from ssl_jax.data.transfer_sets import open_parts
from ssl_jax.errors import UserError
from ssl_jax.evaluate.attention import occlusion_map
from ssl_jax.frozen import Frozen, freeze
from ssl_jax.report.blocks import Block, Picture, Section, Strip, Text
from ssl_jax.report.reading import Judged, in_order

SIDE = 72  # pixels of a picture on the page
QUERIES, NEIGHBOURS, ERRORS = 3, 6, 5
PATCH = 10 / 224  # of the image's side: Ericsson et al. 2020, appendix A.9


def neighbours(judged: Sequence[Judged], sets: Sequence[str], data_dir: str | None, seed: int
               ) -> Section | None:
  """The training images nearest to a few test images, by cosine of the features."""
  blocks: list[Block] = []
  for name in sets:
    told = [(j, j.features(name, "test"), j.features(name, "train")) for j in judged]
    told = [(j, test, train) for j, test, train in told if test and train]
    if not told:
      continue
    try:
      sources = open_parts(name, data_dir).sources
    except UserError as error:
      blocks.append(Text(f"{name}: no images to show ({error})."))
      continue
    classes = _class_names(told[0][0], name)
    index, label = told[0][1]["index"], told[0][1]["label"]
    blocks.append(Text(f"{name}: a test image (left) and the training images nearest to it by "
                       f"cosine. The queries were drawn with seed {seed}, one a class."))
    for query in _queries(label, seed):
      rows = []
      image = figures.data_uri(_image(sources["test"], index[query]), SIDE)
      for j, test, train in told:
        at = int(np.flatnonzero(test["index"] == index[query])[0])
        nearest = _nearest(test["features"][at], train["features"])
        rows.append((j.name, [Picture(image, _class(classes, label[query])), *(
            Picture(figures.data_uri(_image(sources["train"], train["index"][k]), SIDE),
                    _class(classes, train["label"][k]),
                    bool(train["label"][k] == label[query])) for k in nearest)]))
      blocks.append(Strip("", rows))
  return Section("Neighbours", blocks) if blocks else None


def errors(judged: Sequence[Judged], sets: Sequence[str], data_dir: str | None) -> Section | None:
  """The test images that the linear classifier gets wrong with the most confidence, and where the
  encoder looked."""
  blocks: list[Block] = []
  for name in sets:
    rows, notes = [], []
    for j in judged:
      told = j.predictions(name)
      if told is None or "targets" in told:
        continue
      try:
        source = open_parts(name, data_dir).sources["test"]
        encoder = _encoder(j, source)
      except UserError as error:
        notes.append(Text(f"{name}, {j.name}: no images to show ({error})."))
        continue
      rows.append((j.name, _mistakes(told, source, encoder, _class_names(j, name))))
    if rows:
      blocks.append(Strip(
          f"{name}: wrong with the most confidence, as “truth → answer”. Right of each image, the "
          "pixels that change the features most when they are covered (bright).", rows))
    blocks += notes
  return Section("Worst errors", blocks) if blocks else None


def _mistakes(told: dict[str, np.ndarray], source: data.Source, encoder: Frozen,
              classes: Sequence[str]) -> list[Picture]:
  confidence, answer = told["probabilities"].max(-1), told["probabilities"].argmax(-1)
  wrong = (answer != told["label"]) & (told["label"] >= 0)
  worst = np.argsort(np.where(wrong, -confidence, 1), kind="stable")[:min(ERRORS, wrong.sum())]
  pictures = []
  for i in worst:
    shown, attention = look(encoder, _record(source, told["index"][i]))
    text = (f"{_class(classes, told['label'][i])} → {_class(classes, answer[i])}, "
            f"{100 * confidence[i]:.0f}\N{NO-BREAK SPACE}%")
    pictures += [Picture(figures.data_uri(np.uint8(np.round(255 * shown)), SIDE), text, False),
                 Picture(figures.data_uri(figures.overlay(shown, attention), SIDE), "")]
  return pictures


def look(encoder: Frozen, image: bytes | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """An image as the encoder is shown it, f32[h, w, 3], and its occlusion map f32[h, w].

  Patches are of 10 pixels at 224, at least 3; the encoder sees the image larger by what the map
  loses at the border.
  """
  k = max(3, round(PATCH * encoder.size))
  pixels, size = data.to_canvas(image, encoder.canvas)
  batch = {"image": pixels[None], "size": np.array([size], np.int32)}
  larger = np.clip(encoder.show(batch, encoder.size + 2 * (k - 1))[0], 0, 1)
  attention = occlusion_map(encoder.encode, larger, fill=np.float32(encoder.mean), window=k,
                            stride=min(k, max(1, encoder.size // 56)))
  return larger[k - 1:1 - k, k - 1:1 - k], np.asarray(attention)


def shown_sets(judged: Sequence[Judged], asked: Sequence[str]) -> list[str]:
  """The sets whose images a report shows: those asked for, or the first two of one label each.

  Raises:
    UserError: There is no such set.
  """
  known = in_order(judged, "data")
  for name in asked:
    if name not in known:
      raise UserError(f"--sets names {name!r}, which was not judged; it may be {', '.join(known)}")
  return list(asked) or [s for s in known if any(
      (told := j.predictions(s)) is not None and "targets" not in told for j in judged)][:2]


def _encoder(j: Judged, source: data.Source) -> Frozen:
  """The encoder, shown images of a source as the suite has shown them."""
  saved = load_encoder(j.results["init"])
  changed = {k: v for k, v in j.config["view"].items() if v}
  view = dict(saved.meta["preprocessing"]) | changed
  canvas = build.canvas_for({"canvas": 0, "views": view}, source)
  return freeze(saved.variables, dict(saved.meta) | {"preprocessing": view | {"canvas": canvas}})


def _record(source: data.Source, index: int) -> bytes | np.ndarray:
  return source.records[int(index)]["image"]


def _image(source: data.Source, index: int) -> np.ndarray:
  return data.decode(_record(source, index))


def _queries(label: np.ndarray, seed: int) -> list[int]:
  """One test image of each of a few classes."""
  random = np.random.default_rng(seed)
  classes = np.unique(label[label >= 0])
  chosen = np.sort(random.permutation(classes)[:QUERIES])
  return [int(random.choice(np.flatnonzero(label == c))) for c in chosen]


def _nearest(query: np.ndarray, bank: np.ndarray) -> np.ndarray:
  lengths = np.maximum(np.linalg.norm(bank, axis=1), 1e-12)
  return np.argsort(-(bank @ query) / lengths, kind="stable")[:NEIGHBOURS]


def _class_names(j: Judged, name: str) -> Sequence[str]:
  return j.results["data"][name].get("class_names", [])


def _class(names: Sequence[str], label: int) -> str:
  return str(names[label]) if 0 <= label < len(names) else str(label)
