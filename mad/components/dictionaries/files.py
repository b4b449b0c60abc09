"""A directory of dictionaries on disk: one safetensors file a view, and ``dictionaries.json``."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

from jaxtyping import Int64
from torch import Tensor

from mad import tensors
from mad.components.dictionaries.attention.block import AttentionBlock
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.frame import Frame, parse_rows
from mad.components.dictionaries.kinds.registry import put_together, taken_apart
from mad.components.dictionaries.look import Look
from mad.components.joined import Joined
from mad.components.pooling import parse_pooling
from mad.errors import ConfigError

Stored: TypeAlias = Dictionary | AttentionBlock
"""What a directory holds, one file each; a row of the index says which of them, as its form."""

INDEX = "dictionaries.json"
_FORMAT = 3
_SEEN = "seen.safetensors"


@final
@dataclass(frozen=True)
class _Row:
    reads: Sequence[str]
    writes: Sequence[str]
    pooling: str
    suffix: str
    encoder: Mapping[str, Any]
    widths: Sequence[int]
    file: str
    fingerprint: str
    source_rows: str = "none"
    target_rows: str = "none"
    form: str = "dictionary"


def save_dictionaries(
    directory: Path, dictionaries: Sequence[Stored], *, seen: Int64[Tensor, " seen"]
) -> None:
    """Write the dictionaries, and digests of the inputs they have seen.

    The index comes last, so that a torn write leaves no dictionaries.

    Raises:
        ConfigError: when the directory cannot be written.
    """
    with _writing(directory):
        _write(directory, dictionaries, seen)


def in_parts(dictionary: Stored) -> tuple[Mapping[str, Tensor], str]:
    """Return the tensors of a dictionary by name, and the rest as JSON, as an index has it."""
    return dictionary.weights, json.dumps(asdict(_row(dictionary, file="")))


def of_parts(weights: Mapping[str, Tensor], rest: str) -> Stored:
    """Return the dictionary that was taken into parts; KeyError where a tensor is missing."""
    return _built(_Row(**json.loads(rest)), weights)


def prepare_directory(directory: Path) -> None:
    """Make the directory, so that a long training finds out first whether it can be kept.

    Raises:
        ConfigError: when the directory cannot be written.
    """
    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        raise ConfigError(
            f"cannot write dictionaries to {directory}: {cause.strerror}; make room, or set "
            "decomposition.path to a directory that can be written"
        ) from cause


def _write(directory: Path, dictionaries: Sequence[Stored], seen: Int64[Tensor, " seen"]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / INDEX).unlink(missing_ok=True)
    rows = []
    for number, dictionary in enumerate(dictionaries):
        file = f"{number:03d}.safetensors"
        tensors.write_durably(directory / file, tensors.serialise(dictionary.weights))
        rows.append(asdict(_row(dictionary, file)))
    tensors.write_durably(directory / _SEEN, tensors.serialise({"seen": seen}))
    index = json.dumps({"format": _FORMAT, "dictionaries": rows}, indent=2)
    tensors.write_durably(directory / INDEX, index.encode())


def load_seen(directory: Path) -> Int64[Tensor, " seen"]:
    """Read the digests of the inputs that the dictionaries of a directory were trained on.

    Raises:
        ConfigError: when the file is missing, as from an older version, or damaged.
    """
    path = directory / _SEEN
    seen = tensors.read_tensors(path).get("seen") if path.is_file() else None
    if seen is None:
        raise ConfigError(
            f"{path} does not say which inputs the dictionaries have seen: train them again with "
            "`mad train dictionary`, or restore the file"
        )
    return seen


def load_dictionaries(directory: Path) -> Joined:
    """Read the dictionaries of a directory as one decomposition.

    Raises:
        ConfigError: when the index or a file is missing, damaged, or of an unknown format.
    """
    path = directory / INDEX
    content = tensors.read_bytes(path)
    try:
        index = json.loads(content)
        if index["format"] != _FORMAT:
            raise ConfigError(
                f"{path} has format {index['format']}; this version reads {_FORMAT}: train the "
                "dictionaries again with `mad train dictionary`"
            )
        return Joined(tuple(_read(directory, _Row(**row)) for row in index["dictionaries"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise ConfigError(
            f"{path} is not an index of dictionaries ({cause}); train again"
        ) from cause


def _row(dictionary: Stored, file: str) -> _Row:
    if isinstance(dictionary, AttentionBlock):
        form, settings = AttentionBlock.form, dictionary.settings
    else:
        form, settings = "dictionary", taken_apart(dictionary.encoder)[1]
    look = dictionary.look
    return _Row(
        reads=look.reads,
        writes=look.writes,
        pooling=look.pooling,
        suffix=look.suffix,
        encoder=settings,
        widths=dictionary.widths,
        file=file,
        fingerprint=dictionary.fingerprint,
        source_rows=dictionary.source.rows,
        target_rows=dictionary.target.rows,
        form=form,
    )


def _read(directory: Path, row: _Row) -> Stored:
    if Path(row.file).name != row.file:
        raise ConfigError(f"{directory / INDEX}: {row.file!r} is outside the directory")
    path = directory / row.file
    weights = tensors.read_tensors(path)
    try:
        dictionary = _built(row, weights)
    except KeyError as cause:
        raise ConfigError(f"{path} has no tensor {cause}; train the dictionary again") from cause
    if dictionary.fingerprint != row.fingerprint:
        raise ConfigError(f"{path} was changed since it was written; train again or restore it")
    return dictionary


def _built(row: _Row, weights: Mapping[str, Tensor]) -> Stored:
    """Return what a row and its tensors describe; KeyError where one is missing."""
    look = Look(tuple(row.reads), tuple(row.writes), parse_pooling(row.pooling), row.suffix)
    match row.form:
        case AttentionBlock.form:
            return AttentionBlock.of(look, weights, row.encoder)
        case "dictionary":
            return _dictionary(row, look, weights)
        case unknown:
            raise ConfigError(
                f"{row.file} is of the form {unknown!r}, which this version does not know: train "
                "the dictionaries again with `mad train dictionary`"
            )


def _dictionary(row: _Row, look: Look, weights: Mapping[str, Tensor]) -> Dictionary:
    source = _frame(weights, "source", row.source_rows)
    has_target = "target.centre" in weights
    return Dictionary(
        look=look,
        encoder=put_together(weights, row.encoder),
        decoder=weights["decoder"],
        source=source,
        target=_frame(weights, "target", row.target_rows) if has_target else source,
        widths=tuple(row.widths),
        skip=weights.get("skip"),
    )


def _frame(weights: Mapping[str, Tensor], name: str, rows: str) -> Frame:
    return Frame(weights[f"{name}.centre"], weights[f"{name}.scale"], parse_rows(rows))
