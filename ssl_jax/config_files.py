"""Config files by path or by name: the project's own lie in its checkout, or in the wheel."""

import pathlib

from ssl_jax.errors import UserError, nearest

# Of a checkout, and of an installed wheel: the first that has a `configs` folder.
ROOTS = (pathlib.Path(__file__).parent.parent, pathlib.Path(__file__).parent / "shipped")


def names(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """The configs below a root by name, such as `quickstart` and `eval/linear`."""
  folder = root / "configs"
  found = {path.relative_to(folder).with_suffix("").as_posix(): path
           for path in sorted(folder.rglob("*.py"))}
  return {name: path for name, path in found.items() if name not in ("common", "__init__")}


def locate(wanted: str) -> tuple[pathlib.Path, pathlib.Path]:
  """Finds a config file, and the folder from which `configs.x` can be imported.

  Args:
    wanted: A path, or a name of the project's own: `quickstart`, `eval/linear`,
      `configs/quickstart.py`.

  Raises:
    UserError: There is none; names the nearest.
  """
  root = next((root for root in ROOTS if (root / "configs" / "common.py").is_file()), ROOTS[0])
  path = pathlib.Path(wanted)
  if path.is_file():
    # Files of the user's own checkout import that checkout's configs.
    here = path.resolve().parent
    theirs = next((above for above in (here.parent, here.parent.parent)
                   if (above / "configs" / "common.py").is_file()), root)
    return path, theirs
  name = wanted.removeprefix("configs/").removesuffix(".py")
  known = names(root)
  if name not in known:
    raise UserError(f"--config={wanted}: no such file, and no config of that name; "
                    f"{nearest(name, known)}")
  return known[name], root
