"""Settings of one deployment, read strictly from one TOML file and the environment over it.

Unknown keys are errors, in either. Relative paths are relative to the file, so that it can be run
from anywhere and moved together with what it names.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self, final

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsConfigDict

from mad.config import environment
from mad.config.alerts import Alerts
from mad.config.callers import Callers
from mad.config.decomposition import Decomposition
from mad.config.effects import Effects
from mad.config.environment import Environment
from mad.config.fields import (
    Address,
    Count,
    File,
    Files,
    Listen,
    Name,
    Names,
    Place,
    Rate,
    Seconds,
    Section,
    Seed,
    Share,
    database_url,
    factory_path,
)
from mad.config.fit import Fit
from mad.config.logging import Logging
from mad.config.promotion import Promotion
from mad.config.renderer import Renderer
from mad.config.security import Security
from mad.config.tracing import Tracing
from mad.config.upstream import Upstream
from mad.errors import ConfigError


@final
class Model(Section):
    """The monitored model: who builds it, its weights, the names of its inputs in order."""

    name: Name
    factory: Annotated[str, AfterValidator(factory_path)]
    weights: File
    inputs: Names
    arguments: Mapping[str, object] = {}


@final
class Data(Section):
    """Files of trusted inputs."""

    trusted: Files


@final
class Baseline(Section):
    """What to fit, and the store it goes to."""

    name: Name = "default"
    store: Place = Path("baselines")
    false_alarm_rate: Rate = 0.01
    reference_share: Share = 0.25
    weighing_share: Share = 0.15
    alert_on: Literal["surprise", "mechanism", "novelty"] = "surprise"
    by_context: bool = False
    set_code: Literal[
        "clusters",
        "mixture",
        "experts",
        "conditional",
        "independent",
        "tree",
        "nearest_sets",
        "worst_pair",
        "size_index",
    ] = "clusters"
    context: Literal["predicted", "none"] = "predicted"
    activity: Literal["magnitude", "effect"] = "magnitude"
    neighbours: Annotated[int, Field(ge=0, strict=True)] = 5_000
    magnitudes: bool = False
    residual_by_context: bool = False
    seed: Seed = 0


@final
class Server(Section):
    """Where the server listens, where its alerts go, and what it refuses."""

    mode: Literal["wrap", "proxy", "mirror"] = "wrap"
    external_processing: Literal["off", "tell", "block"] = "off"
    grpc_address: Listen = Address("127.0.0.1", 8001)
    http_address: Listen = Address("127.0.0.1", 8002)
    alert_log: Annotated[str, AfterValidator(database_url)] = "sqlite:///alerts.db"
    max_batch: Count = 64
    max_request_inputs: Count = 1024
    max_queued_inputs: Count = 4096
    max_message_bytes: Count = 16 * 1024 * 1024
    max_streams: Count = 2048
    max_stream_requests: Count = 256
    reflection: Annotated[bool, Field(strict=True)] = True
    drain_seconds: Seconds = 10.0
    lame_duck_seconds: Seconds = 0.3

    @model_validator(mode="after")
    def _a_request_fits_the_queue(self) -> Self:
        if self.max_queued_inputs < self.max_request_inputs:
            raise ValueError(
                f"max_queued_inputs = {self.max_queued_inputs} must be at least "
                f"max_request_inputs = {self.max_request_inputs}, or no such request is ever taken"
            )
        return self


@final
class Stream(Section):
    """How live traffic, taken together, is watched, and where its evidence outlives the server."""

    checkpoint: File = Path("stream.json")
    checkpoint_seconds: Seconds = 10.0
    false_alarm_rate: Rate = 0.01
    inputs_per_false_alarm: Count = 100_000


_OPTIONAL: Final = (
    "baseline",
    "renderer",
    "server",
    "callers",
    "stream",
    "security",
    "fit",
    "logging",
    "tracing",
    "promotion",
    "alerts",
    "upstream",
    "effects",
)
"""Tables that a file may leave out."""


@final
class Settings(Section):
    """Everything an operator can set. Every path is absolute."""

    # Values of variables are read here, by the types of their settings, not as JSON.
    model_config = SettingsConfigDict(enable_decoding=False)

    model: Model
    decomposition: Decomposition
    data: Data
    renderer: Renderer
    baseline: Baseline
    server: Server
    callers: Callers
    stream: Stream
    security: Security
    logging: Logging
    tracing: Tracing
    fit: Fit
    promotion: Promotion
    alerts: Alerts
    upstream: Upstream
    effects: Effects

    @model_validator(mode="after")
    def _a_proxy_has_an_upstream_server(self) -> Self:
        if self.server.mode == "proxy" and self.upstream.address is None:
            raise ValueError("server.mode = 'proxy' needs upstream.address")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a TOML file; what ``MAD_SECTION__KEY`` variables say goes before what it says.

        Raises:
            ConfigError: it cannot be read, or a key is unknown, missing or has a wrong value; names
                each such key, or the variable it came from, its value and the remedy.
        """
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read settings {path}: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
        tables = {key: {} for key in _OPTIONAL} | tables
        given = environment.read(cls)
        whole = environment.merged(tables, given.tables)
        try:
            return cls.model_validate(whole, context=path.absolute().parent)
        except ValidationError as error:
            sentences = [_sentence(each, given) for each in error.errors(include_url=False)]
            raise ConfigError(f"{path}: {'; '.join(sentences)}") from error


def _sentence(error: ErrorDetails, given: Environment) -> str:
    """Say which key, or variable, is wrong, its value, and what would be right."""
    place = tuple(map(str, error["loc"]))
    key = given.variable(place) or ".".join(place)
    match error["type"]:
        case "extra_forbidden":
            return f"{key} is no setting{_nearest(*map(str, error['loc']))}"
        case "missing" if len(error["loc"]) == 1:
            return f"section [{key}] is missing"
        case "missing":
            return f"{key} is missing"
        case "model_type":
            return f"{key} = {error['input']!r} must be a section [{key}]"
        case "tuple_type":
            value = _without_password(error["input"])
            return f"{key} = {value} must be a list, in square brackets: [{value}]"
        case _:
            reason = error["msg"].removeprefix("Value error, ").replace("Input should", "must")
            return (
                f"{key}: {reason}"
                if isinstance(error["input"], Mapping)
                else (f"{key} = {_without_password(error['input'])} {reason}")
            )


def _without_password(value: object) -> str:
    """Show a value, but not what a URL has between its scheme and its host."""
    return re.sub(r"://[^/@]*@", "://...@", repr(value))


def _nearest(*location: str) -> str:
    """Suggest a key of the same section, or the section the key belongs to."""
    *section, unknown = location
    keys = {
        name: list(field.annotation.model_fields)
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    siblings = keys.get(section[0], []) if section else list(keys)
    elsewhere = [f"{name}.{unknown}" for name, own in keys.items() if unknown in own]
    near = difflib.get_close_matches(unknown, siblings, n=1) or elsewhere
    return f"; did you mean {near[0]}?" if near else f"; there is {', '.join(siblings)}"
