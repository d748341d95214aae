"""The parts of a report that are figures: tables and plots of what the suite has measured."""

from collections.abc import Iterator, Sequence

import numpy as np

from ssl_jax import figures
from ssl_jax.evaluate.calibration import calibration_error, reliability, temperature_scaling
from ssl_jax.evaluate.correlation import compare
from ssl_jax.evaluate.passport import IMAGENET, passport
from ssl_jax.evaluate.published import columns, models
from ssl_jax.report.blocks import Block, Plot, Section, Table, Text
from ssl_jax.report.reading import Judged, in_order, protocols

NONE = "-"  # a figure that is not there
RANKED = "linear"  # the protocol that the rank plot is of

DIAGRAMS = 4  # sets whose reliability is plotted


def encoders(judged: Sequence[Judged]) -> Section:
  """Who was judged, and by what."""
  rows = []
  for j in judged:
    r = j.results
    versions = ", ".join(f"{k} {v}" for k, v in r.get("versions", {}).items())
    rows.append([j.name, str(r.get("init", "")), str(r.get("step", "")), str(r.get("encoder", "")),
                 str(r.get("seed", "")), str(r.get("config_hash", "")), str(r.get("devices", "")),
                 versions])
  blocks: list[Block] = [Table(
      "", ["encoder", "workdir", "step", "fingerprint", "seed", "config", "devices", "versions"],
      rows, words=True)]
  running = [j.name for j in judged if not j.results.get("complete", True)]
  if running:
    blocks.append(Text(f"Not all protocols have run yet for {', '.join(running)}."))
  return Section("Encoders", blocks)


def accuracy(judged: Sequence[Judged]) -> Section:
  """A table for each protocol, and the linear one as dots."""
  blocks: list[Block] = []
  sets = [s for s in in_order(judged, "sets") if any(j.figure(s, RANKED) for j in judged)]
  if sets:
    values, intervals = (
        np.array([[_number(j.figure(s, RANKED), what) for j in judged] for s in sets])
        for what in ("value", "interval"))
    blocks.append(Plot(figures.svg(figures.scores([j.name for j in judged], sets, values,
                                                  intervals), "scores"),
                       f"Test figures of the protocol {RANKED}; bars are 95 % intervals."))
  blocks += [_protocol_table(judged, protocol) for protocol in protocols(judged)]
  return Section("Figures", blocks)


def _protocol_table(judged: Sequence[Judged], protocol: str) -> Table:
  rows, best, sentence = [], set(), ""
  for name in in_order(judged, "sets"):
    told = [j.figure(name, protocol) for j in judged]
    if not any(told):
      continue
    first = next(t for t in told if t)
    sentence = first["protocol"]
    values = [_number(t, "value") for t in told]
    top = np.nanmax(values)
    if len(judged) > 1:
      best |= {(len(rows), i + 2) for i, v in enumerate(values) if v == top}
    rows.append([name, first["metric"], *map(_cell, told)])
  return Table(sentence, ["set", "metric", *(j.name for j in judged)], rows, frozenset(best),
               title=protocol)


def _number(figure: dict | None, what: str) -> float:
  value = None if figure is None else figure.get(what)
  return float("nan") if value is None else float(value)


def _cell(figure: dict | None) -> str:
  if figure is None:
    return NONE
  interval = figure.get("interval")
  return f"{figure['value']:.1f}" + ("" if interval is None else f" ± {interval:.1f}")


def ranking(judged: Sequence[Judged]) -> Section | None:
  """The encoders' mean ranks, and which of them differ; None with fewer than two to rank."""
  sets = [s for s in in_order(judged, "sets") if all(j.figure(s, RANKED) for j in judged)]
  if len(judged) < 2 or len(sets) < 2:
    return None
  scores = np.array([[j.figure(s, RANKED)["value"] for j in judged] for s in sets])
  found = compare(scores)
  test = "" if np.isnan(found.p_value) else f" Friedman's test: p = {found.p_value:.2g}."
  return Section("Ranks", [
      Plot(figures.svg(figures.mean_ranks([j.name for j in judged], found), "ranks"),
           f"Mean rank over {len(sets)} sets ({', '.join(sets)}), protocol {RANKED}; 1 is best. "
           "Encoders under one bar are closer than the critical difference (Nemenyi, 5 %)."),
      Text(f"Few sets make a wide critical difference: with {len(sets)} sets, "
           f"{found.difference:.2f} ranks.{test}")])


def places(judged: Sequence[Judged]) -> Section:
  """The encoders' places among the published ones."""
  found = {j.name: passport({(s, p): f["value"] for s, by in j.results["sets"].items()
                             for p, f in by.items()}) for j in judged}
  entries: dict[str, dict] = {}
  for name, held in found.items():
    for entry in held:
      entries.setdefault(f"{entry.column.table}/{entry.column.name}", {})[name] = entry
  if not entries:
    return Section("Passport", [Text(
        f"No set here has a published figure to stand beside: the {len(models())} published "
        "encoders were judged on "
        + ", ".join(dict.fromkeys(c.name for c in columns() if c.set)) + ".")])
  names = [j.name for j in judged]
  rows = []
  for by in entries.values():
    column = next(iter(by.values())).column
    better = max if column.higher_is_better else min
    leader = models()[int(np.argmax(column.values == better(column.values)))]
    rows.append([column.name, column.setting, *(
        f"{by[n].value:.1f}, place {by[n].rank}"
        + ("" if by[n].expected is None else f" ({by[n].value - by[n].expected:+.1f})")
        if n in by else NONE for n in names), f"{better(column.values):.1f} {leader}"])
  imagenet = {j.name: f["value"] for j in judged if (f := j.figure(*IMAGENET))}
  plotted = [(next(iter(by.values())).column, {n: e.value for n, e in by.items()})
             for by in entries.values()]
  plotted = [(c, ours) for c, ours in plotted if (c.set, c.protocol) != IMAGENET][:6]
  source = next(iter(next(iter(entries.values())).values())).column.source.partition(", table")[0]
  blocks: list[Block] = [Table(
      f"Places from 1 to {len(models()) + 1} among the published encoders ({source}); in brackets, "
      "how far it is above what its ImageNet accuracy lets one expect.",
      ["column", "setting", *names, "best published"], rows)]
  if plotted:
    blocks.append(Plot(figures.svg(figures.correlations(plotted, imagenet), "places"),
                       "Published encoders and these, on logits of both axes. A dashed line across "
                       "is an encoder without an ImageNet figure."))
  blocks.append(Text(
      "A place means something only if the encoder was trained and judged as the published ones "
      "were: ResNet-50, ImageNet-1k, 224 pixels, the same splits and metric."))
  return Section("Passport", blocks)


def calibration(judged: Sequence[Judged]) -> Section | None:
  """How far confidence is from accuracy, before and after temperature scaling; None without
  predictions."""
  tables, diagrams = [], {}
  for name in in_order(judged, "data"):
    row = [name]
    for j in judged:
      told = j.predictions(name)
      if told is None or "targets" in told:
        row.append(NONE)
        continue
      counted = told["label"] >= 0
      logits, labels = told["logits"][counted], told["label"][counted]
      diagram = reliability(told["probabilities"][counted], labels)
      diagrams.setdefault(name, {})[j.name] = tuple(np.asarray(v) for v in diagram)
      scaled = temperature_scaling(logits, labels)
      row.append(f"{float(calibration_error(diagram)):.1f} → {scaled['ece_scaled']:.1f} "
                 f"(T {scaled['temperature']:.2f})")
    if set(row[1:]) != {NONE}:
      tables.append(row)
  if not tables:
    return None
  shown = dict(list(diagrams.items())[:DIAGRAMS])
  return Section("Calibration", [
      Table("Expected calibration error of the linear classifier in percent, 15 intervals, and "
            "after temperature scaling (T fitted on a fifth of the test images, judged on the "
            "rest, mean of five).", ["set", *(j.name for j in judged)], tables),
      Plot(figures.svg(figures.reliability(shown), "reliability"),
           "Accuracy by confidence; on the diagonal, confidence can be believed. Dots stand at the "
           "mean confidence of their interval.")])


def details(judged: Sequence[Judged]) -> Section:
  """Sizes, choices, time, warnings, and what is missing."""
  rows = []
  for name, protocol, figures_ in _figures(judged):
    first = next(f for f in figures_ if f)
    sizes = ", ".join(f"{k} {v:,}" for k, v in first.get("sizes", {}).items())
    rows.append([name, protocol, sizes, *(_choice(f) for f in figures_)])
  blocks: list[Block] = [Table(
      "What was chosen on validation, and seconds; sizes are images.",
      ["set", "protocol", "sizes", *(j.name for j in judged)], rows, words=True)]
  data = {name: j.results["data"][name] for j in judged for name in j.results.get("data", {})}
  if data:
    blocks.append(Table("The sets.", ["set", "title", "classes", "split", "differs from the table"],
                        [[name, str(d.get("title", "")), str(d.get("classes", "")),
                          str(d.get("split_rule", "")), "; ".join(d.get("warnings", [])) or "no"]
                         for name, d in data.items()], words=True))
  missing = {name: why for j in judged for name, why in j.results.get("missing", {}).items()}
  if missing:
    blocks.append(Table("Sets that were left out.", ["set", "why, and the way to get it"],
                        [list(pair) for pair in missing.items()], words=True))
  return Section("Details", blocks)


def _figures(judged: Sequence[Judged]) -> Iterator[tuple[str, str, list[dict | None]]]:
  for name in in_order(judged, "sets"):
    for protocol in protocols(judged):
      told = [j.figure(name, protocol) for j in judged]
      if any(told):
        yield name, protocol, told


def _choice(figure: dict | None) -> str:
  if figure is None:
    return NONE
  chosen = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}"
                     for k, v in (figure.get("chosen") or {}).items() if v not in ([], None))
  return f"{chosen + '; ' if chosen else ''}{figure['seconds']:.0f} s"
