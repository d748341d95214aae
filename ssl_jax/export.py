"""Encoders for other libraries, and embeddings of images.

    python -m ssl_jax.export --from WORKDIR --to torchvision --out encoder.pth
    python -m ssl_jax.export --from WORKDIR --to timm --out FOLDER
    python -m ssl_jax.export --from zoo:swav --to onnx --out encoder.onnx
    python -m ssl_jax.export --from WORKDIR --to saved-features --data folder:/photos --out e.npz

--from is anything that --config.init may be: a workdir, a checkpoint of others, zoo:NAME. What is
written is read again and compared; docs/checkpoints.md tells how others load it.
"""

import argparse
import sys

from ssl_jax.errors import UserError, exiting

FEATURES = "saved-features"


class Parser(argparse.ArgumentParser):
  """Tells a mistake in one line."""

  def error(self, message: str):
    """Raises a UserError instead of printing the usage."""
    raise UserError(f"{message}; see python -m ssl_jax.export --help")


def parser() -> Parser:
  """The flags of the command."""
  made = Parser(prog="python -m ssl_jax.export", description=__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter)
  made.add_argument("--from", dest="source", required=True, metavar="PATH",
                    help="a workdir, a checkpoint of others, or zoo:NAME")
  made.add_argument("--to", required=True, metavar="FORMAT", help="torchvision, timm, safetensors, "
                    f"onnx, npz, detectron2 or {FEATURES}")
  made.add_argument("--out", required=True, metavar="FILE",
                    help=f"for timm a folder, for {FEATURES} .npz or .parquet")
  made.add_argument("--step", type=int, help="of the workdir's checkpoint; the last by default")
  images = made.add_argument_group(FEATURES)
  images.add_argument("--data", metavar="SPEC", help="images, such as folder:/path; by "
                      "default those that the encoder was trained on")
  images.add_argument("--split", default="train", help="of the images: %(default)s")
  images.add_argument("--data_dir", metavar="DIR", help="where TFDS sets lie")
  images.add_argument("--batch_size", type=int, default=256, help="%(default)s")
  return made


def run(arguments: argparse.Namespace) -> str:
  """Does what the flags say; returns a line about it."""
  from ssl_jax import data, embeddings
  from ssl_jax.checkpoint import load_encoder
  from ssl_jax.convert import saving
  from ssl_jax.errors import nearest

  known = (*saving.FORMATS, FEATURES)
  if arguments.to not in known:
    raise UserError(f"--to={arguments.to} is not known; {nearest(arguments.to, known)}")
  if arguments.data and arguments.to != FEATURES:
    raise UserError(f"--data is for --to={FEATURES}; leave it out")
  encoder = load_encoder(arguments.source, arguments.step)
  if encoder.report:
    print(f"{arguments.source}: {encoder.report}")
  if arguments.to != FEATURES:
    count = saving.save(encoder, arguments.to, arguments.out)
    return f"{arguments.out}: {count} tensors, read again and equal to the last bit"
  spec = arguments.data or encoder.meta["config"]["data"]
  if not spec:
    raise UserError(f"{arguments.source} does not tell of which images; name them: --data=SPEC")
  source = data.open_source(spec, arguments.split, data_dir=arguments.data_dir)
  count, width = embeddings.save(encoder, source, arguments.out, arguments.batch_size)
  for line in source.skipped.news():
    print(line)
  return f"{arguments.out}: {count:,} embeddings of {width} numbers"


def main(argv: list[str] | None = None) -> None:
  """The command: exit status 0, or 2 with one line for a mistake of the user's."""
  exiting(lambda argv: print(run(parser().parse_args(argv))), argv or sys.argv[1:])


if __name__ == "__main__":
  main()
