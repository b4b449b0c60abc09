"""The directory of a run: its last checkpoint, and the few settings that reading needs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from torch import Tensor

from mad import tensors
from mad.components.formats.pickles import tensors_of, unpickled
from mad.errors import ConfigError

SETTINGS: Final = "final_config.yaml"
_STEP = re.compile(r"(?:spd_)?model_(\d+)\.(?:pth|pt)")
_SCALAR = re.compile(r"([A-Za-z_]\w*):\s+(\S.*?)\s*")


@final
@dataclass(frozen=True)
class Run:
    """A checkpoint's tensors by key, and the scalars at the top of its settings as texts."""

    path: Path
    found: Mapping[str, Tensor]
    settings: Mapping[str, str]

    @staticmethod
    def read(path: Path, *, pickles: bool) -> "Run":
        """Read a checkpoint, or the last one of a directory, and the settings beside it.

        Raises:
            ConfigError: there is no checkpoint or no settings, or either is damaged; or pickles
                are not allowed.
        """
        file = _checkpoint(path)
        settings = _scalars(file.parent / SETTINGS)
        state = unpickled(file, allowed=pickles)
        return Run(file, tensors_of(file, state), settings)


def _checkpoint(path: Path) -> Path:
    if path.is_file():
        return path
    steps = [
        (int(match[1]), entry)
        for entry in (path.iterdir() if path.is_dir() else ())
        if (match := _STEP.fullmatch(entry.name))
    ]
    if not steps:
        raise ConfigError(
            f"{path} has no checkpoint such as model_10000.pth; name the directory of a run, or "
            "the checkpoint itself with final_config.yaml beside it"
        )
    return max(steps)[1]


def _scalars(path: Path) -> dict[str, str]:
    """Return the plain scalars at the top level of a YAML file.

    That is all reading needs, and less than a parser of YAML can be made to do.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path} is missing, and tells which importance functions the run has; put it beside "
            "the checkpoint"
        )
    try:
        text = tensors.read_bytes(path).decode()
    except UnicodeDecodeError as cause:
        raise ConfigError(f"{path} is not text ({cause}); download it again") from cause
    lines = (_SCALAR.fullmatch(line) for line in text.splitlines())
    return {match[1]: _plain(match[2]) for match in lines if match}


def _plain(value: str) -> str:
    """Return a scalar without its quotes, or without a comment behind it."""
    quoted = re.fullmatch(r"""(["'])(.*?)\1\s*(?:#.*)?""", value)
    return quoted[2] if quoted else re.sub(r"\s+#.*", "", value)
