"""The site builds without a warning: every link inside resolves, every name of the reference is."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])


def test_the_site_builds_strictly(tmp_path):
  done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
                        cwd=ROOT, capture_output=True, text=True, check=False,
                        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
  assert done.returncode == 0, done.stderr[-3000:]
  assert (tmp_path / "reference" / "index.html").read_text().count("doc-heading") > 100


def test_configs_and_modules_that_the_pages_name_are_there():
  named = {(page.name, name) for page in PAGES
           for name in re.findall(r"(?<![\w/])configs/[\w/]+\.py", page.read_text())}
  assert len(named) > 20
  assert not [pair for pair in named if not (ROOT / pair[1]).is_file()]
  modules = {(page.name, name) for page in PAGES
             for name in re.findall(r"python -m (ssl_jax[\w.]*|benchmarks\.\w+)", page.read_text())}
  missing = [pair for pair in modules
             if not any((ROOT / f"{pair[1].replace('.', '/')}{end}").is_file()
                        for end in (".py", "/__main__.py"))]
  assert len(modules) > 8 and not missing


def test_every_page_is_in_the_navigation():
  nav = (ROOT / "mkdocs.yml").read_text()
  assert not [page.name for page in (ROOT / "docs").glob("*.md") if f": {page.name}" not in nav]
