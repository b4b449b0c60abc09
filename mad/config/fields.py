"""The kinds of values that settings have, and what each refuses."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self, final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)

from mad.errors import ConfigError

MAX_PORT = 65535


@final
@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; port 0 stands for any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``host:port`` or ``[ipv6]:port``; ConfigError if it is neither."""
        host, _, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        is_plain = ":" not in host or host == f"[{bare}]"
        if not (bare and is_plain and port.isdecimal() and int(port) <= MAX_PORT):
            raise ConfigError(f"{text!r} is no address; write host:port, such as 127.0.0.1:8001")
        return cls(bare, int(port))


def _resolved(path: Path, info: ValidationInfo) -> Path:
    assert isinstance(info.context, Path), "settings are read with the directory of their file"
    return Path(os.path.normpath(info.context / path.expanduser()))


def factory_path(text: str, info: ValidationInfo) -> str:
    """Return a factory, its file absolute; ValueError if it is none."""
    where, _, attribute = text.rpartition(":")
    if not (where and attribute.isidentifier()):
        raise ValueError("must be package.module:callable or file.py:callable")
    return f"{_resolved(Path(where), info)}:{attribute}" if where.endswith(".py") else text


def database_url(url: str, info: ValidationInfo) -> str:
    """Return a database URL, its file absolute; ValueError if it is none."""
    scheme, _, path = url.partition(":///")
    if "://" not in url:
        raise ValueError("must be a database URL, such as sqlite:///alerts.db")
    is_file = scheme == "sqlite" and path and not path.startswith((":", "file:"))
    return f"sqlite:///{_resolved(Path(path), info)}" if is_file else url


def place(where: Path | str, info: ValidationInfo) -> Path | str:
    """Return a URL as it is, and anything else as an absolute path."""
    is_url = isinstance(where, str) and "://" in where
    return where if is_url else _resolved(Path(where), info)


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names as they are, none of which may stand twice."""
    if len(set(names)) < len(names):
        raise ValueError("names one thing twice; name each once")
    return names


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    try:
        return Address.parse(str(value))
    except ConfigError as error:
        raise ValueError("must be host:port, such as 127.0.0.1:8001") from error


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
File = Annotated[Path, AfterValidator(_resolved)]
Place = Annotated[Path | str, AfterValidator(place)]
Listen = Annotated[Address, BeforeValidator(_address)]
Count = Annotated[int, Field(gt=0, strict=True)]
Seed = Annotated[int, Field(ge=0, strict=True)]
Rate = Annotated[float, Field(gt=0, lt=0.5, strict=True)]
Share = Annotated[float, Field(gt=0, lt=1, strict=True)]
Seconds = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Part = Annotated[float, Field(gt=0, le=1, strict=True)]
Suffix = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$")]
Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(distinct)]
Files = Annotated[tuple[File, ...], Field(min_length=1)]


class Section(BaseModel):
    """A table of the file; its defaults are those of the documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
