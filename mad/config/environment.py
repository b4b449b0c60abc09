"""Settings from the environment: ``MAD_SECTION__KEY`` variables in, tables as of the file out.

A variable without a double underscore is no setting, whatever its name: orchestrators set
``MAD_SERVICE_HOST`` and the like for a service called mad. Text is written bare; numbers, booleans
and arrays as in the file.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast, final, get_args, get_origin

from pydantic import BaseModel
from pydantic_settings import BaseSettings, EnvSettingsSource

from mad.config.fields import Address
from mad.errors import ConfigError

PREFIX: Final = "MAD_"
DELIMITER: Final = "__"


@final
@dataclass(frozen=True)
class Environment:
    """What the environment sets, as tables, and the variable behind each key by its place."""

    tables: Mapping[str, Any]
    variables: Mapping[tuple[str, ...], str]

    def variable(self, place: tuple[str, ...]) -> str:
        """Return the variable that a setting, or what it is in, came from; empty if from none."""
        found = (self.variables.get(place[:end]) for end in range(len(place), 0, -1))
        return next(filter(None, found), "")


def read(settings: type[BaseModel]) -> Environment:
    """Read the variables of a settings class; unknown sections and keys are among the tables.

    Raises ConfigError for a variable that is a setting but for a second underscore.
    """
    variables = {
        tuple(name[len(PREFIX) :].lower().split(DELIMITER)): name
        for name in os.environ
        if name.upper().startswith(PREFIX) and DELIMITER in name
    }
    _check_underscores(settings)
    source = EnvSettingsSource(
        cast("type[BaseSettings]", settings), env_prefix=PREFIX, env_nested_delimiter=DELIMITER
    )
    known: dict[str, Any] = {
        section: _typed(table, settings.model_fields[section].annotation)
        for section, table in source().items()
        if isinstance(table, Mapping)
    }
    unknown = {
        place[:1]: name
        for place, name in variables.items()
        if place[0] not in settings.model_fields
    }
    tables = {section: {} for (section,) in unknown} | known
    return Environment(tables, variables | unknown)


def merged(file: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a file with those of the environment over them, key by key."""
    whole = dict(file)
    for key, value in environment.items():
        own = whole.get(key)
        if isinstance(own, Mapping) and isinstance(value, Mapping):
            whole[key] = merged(own, value)
        else:
            whole[key] = value
    return whole


def _typed(value: object, annotation: object) -> object:
    """Read text as what the setting is; text that is not is left for validation to refuse."""
    if isinstance(value, Mapping):
        fields = getattr(annotation, "model_fields", {})
        return {
            key: _typed(inner, fields[key].annotation if key in fields else None)
            for key, inner in value.items()
        }
    return value if _is_text(annotation) or not isinstance(value, str) else _literal(value)


def _is_text(annotation: object) -> bool:
    if annotation in (str, Path, Address) or get_origin(annotation) is Literal:
        return True
    return get_origin(annotation) is not tuple and any(map(_is_text, get_args(annotation)))


def _literal(text: str) -> object:
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if len(found) == 1 else text


def _check_underscores(settings: type[BaseModel]) -> None:
    for section, field in settings.model_fields.items():
        for key in getattr(field.annotation, "model_fields", {}):
            flat = f"{PREFIX}{section}_{key}".upper()
            if flat in os.environ:
                meant = f"{PREFIX}{section}{DELIMITER}{key}".upper()
                raise ConfigError(f"{flat} sets nothing; did you mean {meant}?")
