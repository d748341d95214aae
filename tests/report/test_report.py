"""A report on two tiny encoders: whole, self-contained, every figure in its table."""

import html.parser
import json
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from etils import epath

from ssl_jax import build, suite, suite_files
from ssl_jax.errors import UserError
from ssl_jax.report import __main__ as report
from ssl_jax.report import examples
from ssl_jax.report.page import write_report

TEST, TRAIN = 40, 60
VALUES = {"simclr": (71.5, 64.25), "byol": (70.125, 66.5)}


class Page(html.parser.HTMLParser):
  """Tables as rows of cells, the sources of images, and whatever is not closed."""

  def __init__(self, text: str):
    super().__init__()
    self.tables, self.images, self.links, self.open, self.ids = [], [], [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    attributes = dict(attributes)
    self.links += [v for k, v in attributes.items() if k in ("href", "src", "xlink:href")]
    self.ids += [attributes["id"]] if "id" in attributes else []
    if tag == "img":
      self.images.append(attributes["src"])
    elif tag == "table":
      self.tables.append([])
    elif tag == "tr":
      self.tables[-1].append([])
    elif tag in ("td", "th"):
      self.tables[-1][-1].append("")
    if tag not in ("img", "meta"):
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.handle_starttag(tag, attributes)
    if tag not in ("img", "meta"):
      self.open.pop()

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] in ("td", "th"):
      self.tables[-1][-1][-1] += data


def workdir(folder, method: str) -> epath.Path:
  """What the suite leaves of an encoder on two sets, one of them with images."""
  random = np.random.default_rng(len(method))
  root = epath.Path(folder) / method
  logits = random.normal(size=(TEST, 10)).astype(np.float32) * 2
  label = np.arange(TEST, dtype=np.int32) % 10
  probabilities = np.asarray(jax.nn.softmax(logits))
  parts = {"test": (TEST, label), "train": (TRAIN, np.arange(TRAIN, dtype=np.int32) % 10)}
  features = {}
  for part, (count, labels) in parts.items():
    features[part] = f"features/fashion_mnist_mini-{part}-0.npz"
    suite_files.write_arrays(root / features[part], {
        "features": random.normal(size=(count, 8)).astype(np.float32), "label": labels,
        "index": np.arange(count, dtype=np.int32)})
  suite_files.write_arrays(root / "predictions/fashion_mnist_mini-linear.npz", {
      "logits": logits, "probabilities": probabilities, "label": label,
      "index": np.arange(TEST, dtype=np.int32)})

  def figure(value, interval):
    return {"protocol": "logistic regression on <features>", "metric": "top1", "value": value,
            "interval": interval, "chosen": {"l2": 0.316}, "sizes": {"train": 60, "test": 40},
            "seconds": 1.5}

  first, second = VALUES[method]
  results = {
      "task": "suite", "init": f"runs/{method}", "step": 8, "encoder": "0123456789ab",
      "method": method, "seed": 3, "config_hash": "ba9876543210", "devices": "1 x cpu",
      "versions": {"jax": "0.10"}, "complete": True,
      "sets": {"fashion_mnist_mini": {"linear": figure(first, 1.25)},
               "cifar10": {"linear": figure(second, 2.0), "knn": figure(50.0, None)}},
      "data": {"fashion_mnist_mini": {
          "title": "Fashion-MNIST", "classes": 10, "class_names": [f"thing {i}" for i in range(10)],
          "split_rule": "as bundled", "warnings": [], "features": features,
          "predictions": "predictions/fashion_mnist_mini-linear.npz"}},
      "missing": {"aircraft": "its archive is not there; unpack it into DATA_DIR"}}
  (root / "results.json").write_text(json.dumps(results))
  (root / "config.json").write_text(json.dumps(
      {"view": {"preset": "", "size": 0, "proportion": 0.0}}))
  return root


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  """(the page parsed, its text, the Markdown) of two encoders whose networks are as at birth."""
  folder = tmp_path_factory.mktemp("suites")
  meta = tiny.parts("simclr").meta
  module = build.backbone(meta["model"])
  variables = jax.jit(lambda key: module.init(key, jnp.zeros((1, 16, 16, 3)), train=False),
                      compiler_options=tiny.QUICK)(jax.random.key(0))
  saved = types.SimpleNamespace(variables=variables, meta=meta)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(examples, "load_encoder", lambda path: saved)
    patch.setattr(examples, "ERRORS", 2)
    page, text = write_report([workdir(folder, m) for m in VALUES], folder / "out" / "report.html")
  return Page(page.read_text()), page.read_text(), text.read_text()


def test_the_page_needs_nothing_else_and_is_whole(written):
  page, text, _ = written
  assert page.open == [] and len(set(page.ids)) == len(page.ids)
  assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
  assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
  assert not re.search(r"url\((?!#)|@import|<script|<link", text)
  # Three queries with six neighbours, and two errors with their maps, of each of two encoders.
  assert len(page.images) == 2 * 3 * 7 + 2 * 2 * 2
  assert text.count("<svg ") == 4  # scores, ranks, places, reliability
  assert len(text) < 3 * 2**20


def test_figures_stand_in_the_tables_with_their_intervals(written):
  page, text, markdown = written
  header, fashion, cifar = next(t for t in page.tables if t[0][:2] == ["set", "metric"])
  assert header[2:] == ["simclr", "byol"]
  assert fashion == ["fashion_mnist_mini", "top1", "71.5 ± 1.2", "70.1 ± 1.2"]
  assert cifar == ["cifar10", "top1", "64.2 ± 2.0", "66.5 ± 2.0"]
  assert '<td class="best">71.5' in text and '<td class="best">66.5' in text
  assert "| fashion_mnist_mini | top1 | **71.5 ± 1.2** | 70.1 ± 1.2 |" in markdown
  for told in ("0123456789ab", "ba9876543210", "1 x cpu", "jax 0.10", "aircraft", "l2 0.316",
               "train 60, test 40", "64.2, place 15"):
    assert told in text and told in markdown, told
  assert "on &lt;features&gt;" in text


def test_ink_is_the_pages_and_no_text_is_black(written):
  _, text, _ = written
  plots = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
  for plot in plots:
    assert "currentColor" in plot and "#000000" not in plot
    for style in re.findall(r'<text[^>]*style="([^"]*)"', plot):
      assert "fill: currentColor" in style
  assert "prefers-color-scheme: dark" in text


def test_an_encoder_without_images_or_checkpoint_is_told_of(tmp_path):
  root = workdir(tmp_path, "byol")
  _, markdown = write_report([root], tmp_path / "one.html")
  assert "no images to show" in markdown.read_text()
  assert "## Ranks" not in markdown.read_text()


def test_fine_tuning_joins_its_encoder_and_its_protocols_column(tmp_path):
  root = workdir(tmp_path, "byol")
  figure = json.loads((root / "results.json").read_text())["sets"]["cifar10"]["linear"]
  for name, candidates in (("whole", []), ("short", [3])):
    folder = epath.Path(tmp_path) / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(
        {"protocol": "ericsson", "steps": 0, "candidates": candidates}))
    (folder / "results.json").write_text(json.dumps({
        "task": "finetune", "init": "runs/byol", "set": "cifar10",
        "finetune": figure | {"value": 96.9}}))
  _, markdown = write_report([tmp_path / "short", root, tmp_path / "whole"], tmp_path / "r.html")
  text = markdown.read_text()
  assert "**finetune_ericsson**: " in text and "**finetune_ericsson_short**: " in text
  assert text.count("96.9, place 5") == 1  # SimCLR-v1, DeepCluster-v2, BYOL and InfoMin are above
  with pytest.raises(UserError, match="name the suite's workdir of that encoder too"):
    write_report([tmp_path / "whole"], tmp_path / "r.html")


def test_the_suite_ends_with_its_report(tmp_path, command, monkeypatch):
  root = workdir(tmp_path, "byol")
  monkeypatch.setattr(suite, "run", lambda config, workdir: None)  # as when all is done
  status, out, errors = command("--config=configs/transfer/suite.py", "--config.init=runs/byol",
                                f"--workdir={root}")
  assert status == 0 and f"report: {root}/report.html" in out, errors
  assert "70.1 ± 1.2" in (root / "report.html").read_text()
  status, out, _ = command("--config=configs/transfer/suite.py", "--config.init=runs/byol",
                           f"--workdir={root}", "--config.report=False")
  assert status == 0 and "report" not in out


def test_mistakes_are_one_line(tmp_path, capsys):
  root = str(workdir(tmp_path, "byol"))
  for arguments, line in (([str(tmp_path)], "holds no results of the transfer suite"),
                          ([root, "--sets", "pets"], "'pets', which was not judged")):
    with pytest.raises(SystemExit) as ending:
      report.main([*arguments, "--out", str(tmp_path / "r.html")])
    errors = capsys.readouterr().err
    assert ending.value.code == 2 and line in errors and errors.count("\n") == 1
