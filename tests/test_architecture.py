"""The floors of docs/architecture.md hold: a file imports only from floors below its own."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "ssl_jax"
FLOORS = (
    {"types", "errors"},
    {"ops", "augment.color", "config_files"},
    {"losses", "augment", "models", "saliency", "schedules", "sharding"},
    {"augment.presets", "augment.scenes", "convert", "optim", "data",
     "saliency.learned"},
    {"methods", "saliency.making"},
    {"step", "evaluate", "checkpoint", "logbook", "describe", "suite_files"},
    {"config", "build", "choose", "figures"},
    {"assess", "frozen", "preview", "program"},
    {"train", "plan", "suite", "analysis", "embeddings"},
    {"report"},
    {"main", "data.__main__", "saliency.__main__", "saliency.teach", "doctor",
     "export"},
)


def room(module: str) -> str:
  """The name under which FLOORS lists a module: itself, or the folder it lies in."""
  listed = set.union(*FLOORS)
  while module not in listed and "." in module:
    module = module.rpartition(".")[0]
  return module


def floor(module: str) -> int:
  return next(i for i, names in enumerate(FLOORS) if room(module) in names)


def imports(path: pathlib.Path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ssl_jax"):
      for alias in node.names:
        yield f"{node.module}.{alias.name}".removeprefix("ssl_jax.")
    elif isinstance(node, ast.Import):
      yield from (a.name.removeprefix("ssl_jax.") for a in node.names
                  if a.name.startswith("ssl_jax."))


FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_from_floors_below(path):
  module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
  for imported in imports(path):
    if imported == "__version__" or room(imported) == room(module):
      continue
    assert floor(imported) < floor(module), f"{module} imports {imported}"


def test_flax_stays_in_models():
  users = {str(p.relative_to(PACKAGE)) for p in FILES
           if re.search(r"^(import|from) flax", p.read_text(), re.M)}
  assert all(u.startswith("models/") for u in users), users
