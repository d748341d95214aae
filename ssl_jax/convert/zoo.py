"""Published encoders by name: what they are, where they lie, and how to have them here.

`fetch("swav")` gives the file's path in the cache, downloading it at first use. The cache is
`$SSL_JAX_CACHE`, else ~/.cache/ssl_jax/zoo. Sizes and checksums stand here only where the publisher
states them; a file without one is remembered by the checksum it had when it came.
"""

import hashlib
import os
import pathlib
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import NamedTuple

from ssl_jax.errors import UserError, nearest

PATIENCE = 4.0  # seconds until a host counts as out of reach
CHUNK = 1 << 20


class Published(NamedTuple):
  """An encoder that somebody has published.

  Attributes:
    method: Its name in tables.
    paper: Of the method, at arXiv.
    layout: How it lies in its file, a name of convert.layouts, which tells of the images as well.
    address: Where the file is.
    top1: ImageNet accuracy of a linear classifier on it, in percent, as its publisher states it.
    says: Whose figure that is.
    size: Bytes, where known.
    sha256: The beginning of the checksum, as far as its publisher gives it; "" where not.
    file: The name in the cache; by default the address's.
    by_hand: Why it cannot be fetched by the address alone; "" where it can.
  """

  method: str
  paper: str
  layout: str
  address: str
  top1: float
  says: str
  size: int = 0
  sha256: str = ""
  file: str = ""
  by_hand: str = ""

  @property
  def filename(self) -> str:
    """The name in the cache."""
    return self.file or pathlib.PurePosixPath(urllib.parse.urlparse(self.address).path).name


_FACEBOOK = "https://dl.fbaipublicfiles.com/"
_MOCO = _FACEBOOK + "moco/moco_checkpoints/"
_SWAV = _FACEBOOK + "deepcluster/"
_VISSL = _FACEBOOK + "vissl/model_zoo/"
_VISSL_FILE = "/model_final_checkpoint_phase799.torch"
_DROPBOX = "https://www.dropbox.com/sh/87d24jqsl6ra7t2/"
_PCL = "https://storage.googleapis.com/sfr-pcl-data-research/PCL_checkpoint/"
_BYOL = "https://storage.googleapis.com/deepmind-byol/checkpoints/"
# Whose figures.
_TRANSFER = "Ericsson et al. 2021, arXiv:2011.13377"
_MODEL_ZOO = "VISSL, MODEL_ZOO.md"
_BYOL_README = "deepmind-research, byol/README.md"

# The encoders of Ericsson et al. 2021, then others. Addresses are those of linusericsson/
# ssl-transfer (readme.md, download_and_prepare_models.py) and of the publishers' own pages.
ZOO = {
    "supervised": Published(
        "Supervised", "1512.03385", "torchvision",
        "https://download.pytorch.org/models/resnet50-19c8e357.pth", 76.1, _MODEL_ZOO,
        size=102_502_400, sha256="19c8e357"),
    "insdis": Published(
        "InsDis", "1805.01978", "pycontrast",
        _DROPBOX + "AACcsSIt1_Njv7GsmsuzZ6Sta/InsDis.pth?dl=1", 59.5, _TRANSFER),
    "moco_v1": Published(
        "MoCo v1", "1911.05722", "moco",
        _MOCO + "moco_v1_200ep/moco_v1_200ep_pretrain.pth.tar", 60.6, _TRANSFER),
    "pcl_v1": Published(
        "PCL v1", "2005.04966", "moco", _PCL + "PCL_v1_epoch200.pth.tar", 61.5, _TRANSFER),
    "pirl": Published(
        "PIRL", "1912.01991", "pycontrast",
        _DROPBOX + "AADN4jKnvTI0U5oT6hTmQZz8a/PIRL.pth?dl=1", 61.7, _TRANSFER),
    "pcl_v2": Published(
        "PCL v2", "2005.04966", "moco", _PCL + "PCL_v2_epoch200.pth.tar", 67.6, _TRANSFER),
    "simclr_v1": Published(
        "SimCLR v1", "2002.05709", "simclr_tf",
        "https://storage.cloud.google.com/simclr-gcs/checkpoints/ResNet50_1x.zip", 69.1,
        "google-research/simclr, README.md", file="ResNet50_1x",
        by_hand="a zip behind a Google login: unpack it"),
    "moco_v2": Published(
        "MoCo v2", "2003.04297", "moco",
        _MOCO + "moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar", 71.1, _TRANSFER),
    "simclr_v2": Published(
        "SimCLR v2", "2006.10029", "simclr_tf",
        "gs://simclr-checkpoints/simclrv2/pretrained/r50_1x_sk0", 71.7, _TRANSFER,
        file="r50_1x_sk0", by_hand="a folder of Google Storage: copy it (gsutil cp -r)"),
    "sela_v2": Published(
        "SeLa-v2", "2006.09882", "swav", _SWAV + "selav2_400ep_pretrain.pth.tar", 71.8, _TRANSFER),
    "infomin": Published(
        "InfoMin", "2005.10243", "pycontrast",
        _DROPBOX + "AAAzMTynP3Qc8mIE4XWkgILUa/InfoMin_800.pth?dl=1", 73.0, _TRANSFER),
    "byol": Published(
        "BYOL", "2006.07733", "byol", _BYOL + "pretrain_res50x1.pkl", 74.4, _BYOL_README),
    "deepcluster_v2": Published(
        "DeepCluster-v2", "2006.09882", "swav", _SWAV + "deepclusterv2_800ep_pretrain.pth.tar",
        75.2, _TRANSFER),
    "swav": Published(
        "SwAV", "2006.09882", "swav", _SWAV + "swav_800ep_pretrain.pth.tar", 75.3, _TRANSFER),
    "byol_r200x2": Published(
        "BYOL, ResNet-200 2x", "2006.07733", "byol", _BYOL + "pretrain_res200x2.pkl", 79.6,
        _BYOL_README),
    "simclr_vissl": Published(
        "SimCLR, by VISSL", "2002.05709", "vissl",
        _VISSL + "simclr_rn50_800ep_simclr_8node_resnet_16_07_20.7e8feed1" + _VISSL_FILE, 69.68,
        _MODEL_ZOO, file="simclr_vissl_800ep.torch"),
    "npid_pp_vissl": Published(
        "NPID++, by VISSL", "1912.01991", "vissl",
        _VISSL + "npid_pp/4node_800ep_32kneg_cosine_resnet_23_07_20.75432662" + _VISSL_FILE, 56.68,
        _MODEL_ZOO, file="npid_pp_vissl_800ep.torch"),
    "pirl_vissl": Published(
        "PIRL, by VISSL", "1912.01991", "vissl",
        _VISSL + "pirl_jigsaw_4node_pirl_jigsaw_4node_resnet_22_07_20.34377f59" + _VISSL_FILE,
        64.29, _MODEL_ZOO, file="pirl_vissl_800ep.torch"),
    "swav_vissl": Published(
        "SwAV, by VISSL", "2006.09882", "vissl",
        _VISSL + "swav_in1k_rn50_800ep_swav_8node_resnet_27_07_20.a0a6b676" + _VISSL_FILE, 74.92,
        _MODEL_ZOO, file="swav_vissl_800ep.torch"),
}


def cache() -> pathlib.Path:
  """The folder of the downloaded files."""
  return pathlib.Path(os.environ.get("SSL_JAX_CACHE")
                      or pathlib.Path.home() / ".cache" / "ssl_jax" / "zoo")


def fetch(name: str) -> pathlib.Path:
  """The path of a published encoder in the cache, downloaded if it is not there.

  Raises:
    UserError: The name is unknown, the host is out of reach, or the file is not what it should be.
  """
  if name not in ZOO:
    raise UserError(f"zoo:{name} is not known; {nearest(name, ZOO)}")
  entry, place = ZOO[name], cache() / ZOO[name].filename
  if place.exists():
    if place.is_file():
      check(place, entry, name)
    return place
  if entry.by_hand:
    raise UserError(f"zoo:{name} is not at {place}; {entry.address} is {entry.by_hand}, so that "
                    "model.ckpt-*.index and its data file lie in that folder")
  try:
    download(entry.address, place, entry, name)
  except (OSError, urllib.error.URLError) as error:
    raise UserError(f"zoo:{name}: {urllib.parse.urlparse(entry.address).netloc} is out of reach "
                    f"({_reason(error)}); put {entry.address} at {place}") from error
  return place


def check(path: pathlib.Path, entry: Published, name: str) -> None:
  """Compares a file with what is known of it: its publisher's checksum, or that of its download.

  Raises:
    UserError: It differs.
  """
  side = path.with_name(path.name + ".sha256")
  wanted = entry.sha256 or (side.read_text().strip() if side.exists() else "")
  size = path.stat().st_size
  if entry.size and size != entry.size:
    raise UserError(f"zoo:{name}: {path} has {size:,} bytes, {entry.size:,} were published; delete "
                    "it to fetch it again")
  if not wanted:
    return
  found = sha256(path)
  if not found.startswith(wanted):
    raise UserError(f"zoo:{name}: the checksum of {path} begins with {found[:12]}, not with "
                    f"{wanted[:12]}; delete it to fetch it again")


def sha256(path: pathlib.Path) -> str:
  """The checksum of a file."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def download(address: str, place: pathlib.Path, entry: Published, name: str) -> None:
  """Downloads to a part beside `place`, goes on where an earlier try stopped, checks, renames."""
  reachable(address)
  place.parent.mkdir(parents=True, exist_ok=True)
  part = place.with_name(place.name + ".part")
  have = part.stat().st_size if part.exists() else 0
  request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
  print(f"zoo:{name}: fetching {address} to {place}", flush=True)
  with urllib.request.urlopen(request, timeout=30) as response:
    # A server that does not know ranges sends everything, with status 200.
    with open(part, "ab" if have and response.status == 206 else "wb") as file:
      while data := response.read(CHUNK):
        file.write(data)
    wanted = response.headers.get("Content-Range", "").rpartition("/")[2] \
        or response.headers.get("Content-Length")
  if wanted and wanted.isdigit() and part.stat().st_size != int(wanted):
    raise OSError(f"the connection ended after {part.stat().st_size:,} of {int(wanted):,} bytes; "
                  "the same command goes on from there")
  try:
    check(part, entry, name)
  except UserError:
    part.unlink()
    raise
  place.with_name(place.name + ".sha256").write_text(sha256(part) + "\n")
  part.replace(place)


def reachable(address: str) -> None:
  """Connects to an address's host, and gives up soon: a resolver may take a minute to say no.

  Raises:
    OSError: It cannot be reached within `PATIENCE` seconds.
  """
  url = urllib.parse.urlparse(address)
  outcome: list[BaseException | None] = []

  def connect():
    try:
      port = url.port or (443 if url.scheme == "https" else 80)
      socket.create_connection((url.hostname, port), timeout=PATIENCE).close()
      outcome.append(None)
    except OSError as error:
      outcome.append(error)

  thread = threading.Thread(target=connect, daemon=True)
  thread.start()
  thread.join(PATIENCE)
  if not outcome:
    raise OSError(f"no answer within {PATIENCE:.0f} s")
  if outcome[0] is not None:
    raise outcome[0]


def _reason(error: Exception) -> str:
  return (str(getattr(error, "reason", error)).splitlines() or [type(error).__name__])[0]
