"""Plots of the analyses: matplotlib figures, as SVG that takes its ink from the page, or as PNG.

Colours are Okabe and Ito's, which people with any colour vision tell apart, the blues lighter so
that all stand out on white and on black; each goes with a marker of its own.
"""

import base64
import io
import re
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ssl_jax.evaluate.correlation import Ranking
from ssl_jax.evaluate.published import Column, columns, correlation, models

COLOURS = ("#2E86C8", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#7FC4F0", "#8C8C8C")
PUBLISHED = "#8C8C8C"
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
INK = "#010203"  # what an SVG on a page has in the page's own colour of text
STYLE = {
    "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "text.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.facecolor": "none", "figure.facecolor": "none", "font.size": 9, "axes.titlesize": 9,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "font.family": "DejaVu Sans", "svg.fonttype": "none", "svg.hashsalt": "ssl_jax",
    "legend.frameon": False, "legend.fontsize": 8, "grid.color": INK, "grid.alpha": 0.15,
    "grid.linewidth": 0.6}


Diagram = tuple[np.ndarray, np.ndarray, np.ndarray]  # count, confidence, accuracy by interval
styled = mpl.rc_context(STYLE)  # decorates whatever makes or writes a figure


def look(i: int) -> dict[str, str]:
  """The colour and marker of encoder i."""
  return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


@styled
def svg(figure: Figure, name: str) -> str:
  """The figure as an SVG element for a page; `name` makes its identifiers unique there."""
  out = io.StringIO()
  figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
  text = out.getvalue()
  text = text[text.index("<svg"):]
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
  text = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
  text = text.replace(INK, "currentColor").replace("'DejaVu Sans'", "system-ui, sans-serif")
  # The page gives the width, up to the figure's own.
  width = float(re.search(r'width="([\d.]+)pt"', text)[1]) * 4 / 3
  text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text)
  return text.replace("<svg ", f'<svg role="img" style="max-width:{width:.0f}px" ', 1)


@styled
def write_png(figure: Figure, path) -> None:
  """The figure as a PNG file on white."""
  out = io.BytesIO()
  figure.savefig(out, format="png", dpi=150, facecolor="white")
  path.write_bytes(out.getvalue())


def data_uri(image: np.ndarray, side: int) -> str:
  """An image u8[h, w, 3] as a PNG in a URI, small ones enlarged by whole pixels."""
  factor = max(side // max(image.shape[:2]), 1)
  picture = Image.fromarray(image.repeat(factor, 0).repeat(factor, 1))
  picture.thumbnail((2 * side, 2 * side))
  out = io.BytesIO()
  picture.save(out, format="png", optimize=True)
  return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def overlay(image: np.ndarray, attention: np.ndarray) -> np.ndarray:
  """The image in grey, its attended pixels in colour: u8[h, w, 3].

  Args:
    image: f32[h, w, 3] in [0, 1], what the map is of.
    attention: f32[h, w]; scaled to its own range.
  """
  span = max(float(np.ptp(attention)), 1e-12)
  share = ((attention - attention.min()) / span)[..., None]
  heat = mpl.colormaps["viridis"](share[..., 0])[..., :3]
  grey = np.clip(image, 0, 1).mean(-1, keepdims=True)
  return np.uint8(np.round(255 * np.clip(0.35 * grey + 0.65 * heat, 0, 1)))


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **settings):
  figure = Figure((width, height), layout="constrained")
  return figure, figure.subplots(rows, columns, squeeze=False, **settings)


@styled
def scores(names: Sequence[str], sets: Sequence[str], values: np.ndarray, intervals: np.ndarray
           ) -> Figure:
  """Percent of every encoder on every set as dots with 95 % intervals: two [sets, encoders]."""
  figure, ((axis,),) = _figure(6.4, 0.8 + (0.16 + 0.13 * len(names)) * len(sets))
  for i, name in enumerate(names):
    y = np.arange(len(sets)) + 0.7 * ((i + 0.5) / len(names) - 0.5)
    axis.errorbar(values[:, i], y, xerr=np.nan_to_num(intervals[:, i]), linestyle="none",
                  markersize=5, elinewidth=1, label=name, **look(i))
  axis.set(yticks=range(len(sets)), yticklabels=sets, xlabel="%", ylim=(len(sets) - 0.5, -0.5))
  axis.grid(axis="x")
  for line in np.arange(1, len(sets)) - 0.5:
    axis.axhline(line, color=INK, alpha=0.15, linewidth=0.6)
  axis.legend(loc="upper left", bbox_to_anchor=(1, 1), handletextpad=0.2)
  return figure


@styled
def mean_ranks(names: Sequence[str], ranking: Ranking) -> Figure:
  """Demsar's plot: encoders on the axis of their mean rank, a bar over those that do not differ."""
  count, order = len(names), np.argsort(ranking.mean, kind="stable")
  figure, ((axis,),) = _figure(6.4, 0.9 + 0.2 * count + 0.12 * len(ranking.cliques))
  half = (count + 1) // 2
  bars = 0.35 + 0.35 * len(ranking.cliques)
  for place, i in enumerate(order):
    left = place < half
    depth = bars + 0.8 * (place if left else count - 1 - place) + 0.3
    end, align = (1 - 0.15, "right") if left else (count + 0.15, "left")
    axis.plot([ranking.mean[i]] * 2 + [end], [0, depth, depth], color=COLOURS[i % len(COLOURS)],
              linewidth=1.2, clip_on=False)
    axis.annotate(f"{names[i]} {ranking.mean[i]:.2f}", (end, depth), (-4 if left else 4, 0),
                  textcoords="offset points", ha=align, va="center", annotation_clip=False)
  for level, clique in enumerate(ranking.cliques):
    ends = ranking.mean[list(clique)]
    axis.plot([ends.min() - 0.03, ends.max() + 0.03], [0.35 + 0.35 * level] * 2, color=INK,
              linewidth=3, solid_capstyle="butt")
  axis.plot([1, 1 + min(ranking.difference, count - 1)], [-1.5, -1.5], color=INK, linewidth=1.2,
            marker="|")
  axis.text(1, -1.7, f"critical difference {ranking.difference:.2f}", va="bottom")
  axis.set(xlim=(1 - 0.02, count + 0.02), ylim=(bars + 0.8 * half, -2.6), yticks=[],
           xticks=range(1, count + 1))
  axis.xaxis.set_ticks_position("top")
  axis.spines[["left", "bottom"]].set_visible(False)
  axis.spines["top"].set_visible(True)
  axis.spines["top"].set_position(("data", 0))
  axis.margins(0)
  return figure


@styled
def reliability(rows: Mapping[str, Mapping[str, Diagram]]) -> Figure:
  """A reliability diagram of every encoder (columns) on every set (rows)."""
  names = list(dict.fromkeys(name for row in rows.values() for name in row))
  figure, axes = _figure(max(1.7 * len(names), 2.2), 1.75 * len(rows) + 0.2, len(rows), len(names),
                         sharex=True, sharey=True)
  for line, (label, row) in zip(axes, rows.items()):
    line[0].set_ylabel(f"{label}\naccuracy")
    for i, (axis, name) in enumerate(zip(line, names)):
      axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
      axis.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle="--")
      if name in row:
        count, confidence, accuracy = row[name]
        bins, some = len(count), count > 0
        axis.bar((np.arange(bins) + 0.5)[some] / bins, accuracy[some], 0.9 / bins,
                 color=COLOURS[i % len(COLOURS)], alpha=0.75)
        axis.plot(confidence[some], accuracy[some], ".", color=INK, markersize=3)
  for axis, name in zip(axes[0], names):
    axis.set_title(name)
  figure.supxlabel("confidence", fontsize=9)
  return figure


@styled
def correlations(entries: Sequence[tuple[Column, Mapping[str, float]]],
                 imagenet: Mapping[str, float]) -> Figure:
  """Published encoders' columns against their ImageNet accuracy, on logits; ours among them.

  Args:
    entries: A column, and our encoders' figures in it by name.
    imagenet: Our encoders' ImageNet accuracies; one without is a line across.
  """
  across = min(len(entries), 3)
  down = -(-len(entries) // across)
  figure, axes = _figure(2.3 * across + 1.1, 2.2 * down, down, across)
  for axis in axes.flat[len(entries):]:
    axis.set_visible(False)
  base = columns()[0]
  x = base.scale(base.values)
  names = list(dict.fromkeys(name for _, ours in entries for name in ours))
  for axis, (column, ours) in zip(axes.flat, entries):
    y = column.scale(column.values)
    axis.scatter(x[:-1], y[:-1], s=14, color=PUBLISHED, label="published")
    axis.scatter(x[-1:], y[-1:], s=22, facecolors="none", edgecolors=INK, label=models()[-1])
    line = np.polyfit(x, y, 1)
    axis.plot([x.min(), x.max()], np.polyval(line, [x.min(), x.max()]), color=INK, linewidth=0.7)
    for name, value in ours.items():
      style, at = look(names.index(name)), float(column.scale(value))
      if name in imagenet:
        axis.plot(base.scale(imagenet[name]), at, linestyle="none", label=name, **style)
      else:
        axis.axhline(at, color=style["color"], linestyle="--", linewidth=1.2, label=name)
    axis.set(title=f"{column.name}, {column.setting}\nr = {correlation(column)[0]:.2f}")
    _percent_ticks(axis.xaxis, base)
    _percent_ticks(axis.yaxis, column)
  figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside right upper")
  figure.supxlabel("ImageNet top-1, %", fontsize=9)
  return figure


def _percent_ticks(axis, column: Column) -> None:
  """Ticks at round percents of a column's scale."""
  if column.whole is None:
    return
  low, high = axis.get_view_interval()
  ticks = [p for p in (1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 97, 98, 99, 99.5)
           if low <= column.scale(p / 100 * column.whole) <= high]
  ticks = ticks if len(ticks) < 7 else ticks[::2]
  axis.set_ticks([float(column.scale(p / 100 * column.whole)) for p in ticks],
                 labels=[f"{p:g}" for p in ticks])


@styled
def stages(values: Mapping[str, Mapping[str, float]], ylabel: str) -> Figure:
  """Lines over the layers of encoders: name -> {layer: value}."""
  figure, ((axis,),) = _figure(4.2, 2.6)
  for i, (name, line) in enumerate(values.items()):
    axis.plot(list(line), list(line.values()), markersize=5, label=name, **look(i))
  axis.set(ylabel=ylabel)
  axis.grid(axis="y")
  if len(values) > 1:
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
  return figure


@styled
def heat_maps(maps: Mapping[str, tuple[Sequence[str], Sequence[str], np.ndarray]]) -> Figure:
  """Matrices of values from 0 to 1, each with the names of its rows and columns."""
  figure, axes = _figure(2.9 * len(maps), 2.9, 1, len(maps))
  for axis, (name, (rows, names, values)) in zip(axes.flat, maps.items()):
    axis.imshow(values, vmin=0, vmax=1, cmap="viridis")
    for i, row in enumerate(values):
      for j, value in enumerate(row):
        axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7,
                  color="black" if value > 0.6 else "white")
    axis.set(title=textwrap.fill(name, 26), yticks=range(len(rows)), yticklabels=rows)
    axis.set_xticks(range(len(names)), labels=names, rotation=45, ha="right")
  return figure


@styled
def gallery(rows: Mapping[str, Sequence[np.ndarray]], titles: Sequence[str] = ()) -> Figure:
  """Rows of images [h, w, 3] in [0, 1] or u8, each row with its name."""
  across = max(map(len, rows.values()))
  figure, axes = _figure(1.0 * across + 0.8, 1.1 * len(rows), len(rows), across)
  for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
  for row, (name, images) in zip(axes, rows.items()):
    row[0].set_ylabel(name)
    for axis, image in zip(row, images):
      axis.imshow(image if image.dtype == np.uint8 else np.clip(image, 0, 1))
  for axis, title in zip(axes[0], titles):
    axis.set_title(title)
  return figure
