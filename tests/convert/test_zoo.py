"""Published encoders by name: fetched once, whole, checked; or told where to put the file."""

import functools
import hashlib
import http.server
import pathlib
import re
import socket
import threading
import time
import urllib.parse

import pytest
import torch
from fabricated_checkpoints import CHECKPOINTS

from ssl_jax import convert
from ssl_jax.convert import layouts, zoo
from ssl_jax.errors import UserError


class Server(http.server.SimpleHTTPRequestHandler):
  """Serves a folder, with ranges; hangs up after `limit` bytes of an answer."""

  limit = None
  asked: list = []  # noqa: RUF012

  def do_GET(self):
    data = open(self.translate_path(self.path), "rb").read()  # noqa: SIM115
    wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
    start = int(wanted[1]) if wanted else 0
    Server.asked.append(start)
    self.send_response(206 if wanted else 200)
    self.send_header("Content-Length", str(len(data) - start))
    if wanted:
      self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    self.end_headers()
    self.wfile.write(data[start:][:self.limit])

  def log_message(self, *_):
    pass


@pytest.fixture
def host(tmp_path):
  """A folder, and the address at which it is served."""
  (tmp_path / "host").mkdir()
  Server.limit, Server.asked = None, []
  with http.server.ThreadingHTTPServer(
      ("127.0.0.1", 0), functools.partial(Server, directory=tmp_path / "host")) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path / "host", f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def published(host, tmp_path, monkeypatch):
  """`published(**changes)` puts a SwAV file on the host and in the registry as zoo:mine."""
  folder, address = host
  torch.save(CHECKPOINTS["swav"]()[0], folder / "swav.pth.tar")
  monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))

  def publish(**changes):
    entry = zoo.ZOO["swav"]._replace(address=address + "swav.pth.tar", **changes)
    monkeypatch.setitem(zoo.ZOO, "mine", entry)
    return tmp_path / "cache" / "swav.pth.tar"

  return publish


def refused(name, *fragments):
  with pytest.raises(UserError) as error:
    convert.load(f"zoo:{name}")
  assert "\n" not in str(error.value)
  for fragment in fragments:
    assert fragment in str(error.value)


def test_a_file_is_fetched_once_and_converted(published):
  place = published()
  assert convert.load("zoo:mine").meta["method"] == "swav"
  assert convert.load("zoo:mine").report.matched == 265 and Server.asked == [0]
  assert place.with_name("swav.pth.tar.sha256").read_text().strip() == zoo.sha256(place)


def test_an_interrupted_download_goes_on_where_it_stopped(published):
  place = published()
  Server.limit = 100_000
  refused("mine", "ended after 100,000 of", "goes on from there")
  assert not place.exists()
  Server.limit = None
  assert convert.load("zoo:mine").report.matched == 265
  assert Server.asked == [0, 100_000] and not place.with_name("swav.pth.tar.part").exists()


def test_a_file_that_is_not_the_published_one_is_refused(published, host):
  place = published(sha256="abcdef12")
  refused("mine", "checksum", "not with abcdef12")
  assert not place.exists()
  published(sha256=hashlib.sha256((host[0] / "swav.pth.tar").read_bytes()).hexdigest()[:8])
  convert.load("zoo:mine")
  with open(place, "ab") as file:
    file.write(b"x")
  refused("mine", "delete it to fetch it again")
  published(size=12, sha256="")
  refused("mine", "12 were published")


def test_a_file_of_another_layout_is_refused(published):
  published(layout="moco")
  refused("mine", "of the layout swav, not moco")


def test_without_a_route_the_place_of_the_file_is_told_soon(published, monkeypatch):
  place = published()

  def silent(*arguments, **options):
    time.sleep(60)
  monkeypatch.setattr(socket, "create_connection", silent)
  monkeypatch.setattr(zoo, "PATIENCE", 0.1)
  start = time.monotonic()
  refused("mine", "127.0.0.1", "out of reach", "no answer", f"at {place}")
  assert time.monotonic() - start < 5


def test_what_cannot_be_fetched_by_an_address_says_how_to_get_it(tmp_path, monkeypatch):
  monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path))
  refused("simclr_v1", str(tmp_path / "ResNet50_1x"), "behind a Google login")
  refused("swaw", "did you mean 'swav'")


def test_the_page_about_checkpoints_names_every_layout_and_encoder():
  page = (pathlib.Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
  for name in {layout.name for layout in layouts.EVERY} | zoo.ZOO.keys():
    assert f"| `{name}` |" in page, name
  for entry in zoo.ZOO.values():
    assert f"| {entry.top1} |" in page and entry.paper in page


def test_the_registry_is_whole():
  known = {layout.name for layout in layouts.EVERY}
  for name, entry in zoo.ZOO.items():
    assert entry.layout in known, name
    assert re.fullmatch(r"\d{4}\.\d{5}", entry.paper) and 40 < entry.top1 < 90
    assert urllib.parse.urlparse(entry.address).scheme in ("https", "gs")
  names = [entry.filename for entry in zoo.ZOO.values()]
  assert len(set(names)) == len(names) and all(names)
