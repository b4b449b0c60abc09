"""Files that a report is written to: refused before the work if they could not be written after."""

from collections.abc import Iterable
from pathlib import Path

from mad.errors import ConfigError


def check(paths: Iterable[Path], *, with_plot: bool, folder: Path | None = None) -> None:
    """Raise ConfigError where a file's directory is not there, or matplotlib, which is an extra.

    So it does where a file is to be and a directory is, unless it is ``folder``.
    """
    for path in paths:
        if path.is_dir() and path != folder:
            raise ConfigError(f"cannot write {path}: it is a directory; name a file in it")
        if not path.absolute().parent.is_dir():
            raise ConfigError(f"cannot write {path}: there is no directory {path.parent}; make it")
    if with_plot:
        try:
            import matplotlib as _  # noqa: F401  # whether it is there
        except ModuleNotFoundError as error:
            raise ConfigError(
                "--plot needs the Python package matplotlib; run: pip install 'mad[bench]', or "
                "leave --plot out"
            ) from error
