"""The text of docs/results.md, from the records that `benchmarks.evidence` keeps."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

HEAD = """# Results

Every figure here was run; this page is written by `python -m benchmarks.evidence` from the records
in [benchmarks/results](../benchmarks/results), and the same command again runs what is missing.

Test accuracy in percent, of frozen encoders that saw no test image. *Linear*: multinomial logistic
regression on the features of all training images, its penalty chosen on a fifth of them. *k-NN*:
cosine similarity, {knn_k} neighbours, temperature {knn_temperature}. *100 labels*: logistic
regression on {few_per_class} labels a class, mean over {few_draws} draws. *Own kind* and
*swapped*: the linear probe where each object stands on another background of its class's own kind,
or on one of other classes; *drop* is the accuracy on unchanged images less *swapped*, *gap* that
on *own kind* less *swapped*, both in points: what is owed to backgrounds. After ±: the standard
deviation over seeds, where there are several. *Train* is the time of the training steps with their
compilation, *all* that of the whole command with its evaluation; the machine did other work at the
same time, so that they differ between seeds. Supervised methods and SupCon use the training
labels, the others do not; *pixels* are the raw images, *random init* is the network before
training. SimCLR's settings were chosen for this network and length on other images of
Fashion-MNIST's training split; the other methods share its views and length, and had two trials of
their own at most: their rows say what that gives, not what the methods can do.
"""


Table = tuple[str, Sequence[str], Mapping[str, str]]  # heading, rows, figure -> heading


def render(records: Sequence[Mapping[str, Any]], tables: Mapping[str, Table]) -> str:
  """The page.

  Args:
    records: As `benchmarks.evidence.run` makes them.
    tables: Suite -> its table, in the order of the page.
  """
  protocol = records[0]["config"]["evaluate"] if records else {
      "knn_k": 20, "knn_temperature": 0.1, "few_per_class": 10, "few_draws": 5}
  parts = [HEAD.format(**protocol)]
  for suite, (title, rows, columns) in tables.items():
    mine = [r for r in records if r["suite"] == suite]
    parts.append(f"## {title}\n")
    if not mine:
      parts.append(f"Not run yet: `python -m benchmarks.evidence --suite {suite}`.\n")
    for hardware in sorted({r["hardware"] for r in mine}):
      parts.append(section([r for r in mine if r["hardware"] == hardware], rows, columns))
  return "\n".join(parts)


def section(records: Sequence[Mapping[str, Any]], methods: Sequence[str],
            columns: Mapping[str, str]) -> str:
  """The table of a suite on one kind of machine."""
  some = records[0]
  lines = [f"On {some['hardware']}; jax {joined(r['versions']['jax'] for r in records)}; "
           f"{joined(r['steps'] for r in records)} steps of "
           f"{joined(r['config']['batch_size'] for r in records)} images.\n",
           f"| encoder | {' | '.join(columns.values())} | seeds | train s | all s |",
           "|---|" + "---:|" * (len(columns) + 3)]
  for method in methods:
    mine = [r for r in records if r["method"] == method]
    if mine:
      seconds = [mean([r[k] for r in mine if r[k] is not None])
                 for k in ("train_seconds", "seconds")]
      lines.append(row(method, [r["results"] for r in mine], columns, *seconds))
  for baseline, label in (("random_init", "random init"), ("pixels", "pixels")):
    mine = [r["results"]["baselines"][baseline] for r in records if "baselines" in r["results"]]
    if mine:
      lines.append(row(label, mine, columns, "", ""))
  # One command stands for all: only method and seed differ.
  lines += ["", "One of the commands:", "", "```", wrapped(some["command"]), "```", ""]
  return "\n".join(lines)


def row(label: str, results: Sequence[Mapping[str, Any]], columns: Mapping[str, str],
        *seconds: str) -> str:
  """A row: the mean over seeds of each figure that was measured."""
  cells = []
  for figure in columns:
    values = [r[figure]["top1"] for r in results if figure in r]
    if not values:
      cells.append("")
      continue
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    cells.append(f"{statistics.mean(values):.1f}{spread}")
  return "| " + " | ".join([label, *cells, str(len(results)), *seconds]) + " |"


def mean(values: Sequence[float]) -> str:
  return f"{statistics.mean(values):.0f}" if values else ""


def joined(values) -> str:
  return ", ".join(map(str, sorted(set(values))))


def wrapped(command: str) -> str:
  """A command over several lines."""
  return command.replace(" --", " \\\n  --")
