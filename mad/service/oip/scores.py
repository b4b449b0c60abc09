"""Scores as outputs and parameters of a response, beside the model's own."""

import struct
from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Final, Literal, final

from mad.errors import ForbiddenError
from mad.service.caller import caller
from mad.service.oip import inference_pb2 as pb, wire
from mad.service.oip.heads import Output
from mad.types import Verdict

EXTENSION: Final = "mad_scores"


@final
@dataclass(frozen=True, slots=True)
class _Column:
    """One number of each verdict; ``field`` carries it where contents are typed.

    ``code`` is how its bytes are held; see array.
    """

    datatype: str
    field: str
    code: Literal["d", "B"]
    of: Callable[[Verdict], float]

    def numbers(self, verdicts: Sequence[Verdict]) -> "array[float]":
        """Return it of each verdict."""
        return array(self.code, map(self.of, verdicts))


def _real(name: str) -> _Column:
    return _Column("FP64", "fp64_contents", "d", attrgetter(name))


_COLUMNS: Final[Mapping[str, _Column]] = {
    "mad.surprise_bits": _real("surprise_bits"),
    "mad.mechanism_bits": _real("mechanism_bits"),
    "mad.novelty_bits": _real("novelty_bits"),
    "mad.p_value": _real("p_value"),
    "mad.is_alert": _Column("BOOL", "bool_contents", "B", attrgetter("is_alert")),
}
_READERS: Final = frozenset({"score.read", "score.coarse"})
NAMES: Final = tuple(_COLUMNS)
"""The outputs that are scores."""
KINDS: Final = tuple((name, column.datatype) for name, column in _COLUMNS.items())
"""The same with their datatypes."""
_OF_ONE: Final = struct.Struct("<2sd2sd2sd2sd2s?")
_EIGHT, _ONE = wire.raw_opening(8), wire.raw_opening(1)
_IS_ALERT, _BITS = attrgetter("is_alert"), attrgetter("surprise_bits")


def may_read() -> bool:
    """Tell whether the caller may see scores, be it in steps: an answer has what it may see."""
    return not _READERS.isdisjoint(caller.get().roles)


def wanted(requested: Sequence[str]) -> tuple[str, ...]:
    """Return the scores to answer with: those requested, or all where nothing is.

    Raises ForbiddenError when a caller requests what it may not read.
    """
    if not requested:
        return NAMES if may_read() else ()
    scores = tuple(name for name in requested if name in _COLUMNS)
    if scores and not may_read():
        raise ForbiddenError(
            f"output {scores[0]} needs the role score.read or score.coarse; request the model's "
            "outputs only"
        )
    return scores


def described() -> list[pb.ModelMetadataResponse.TensorMetadata]:
    """Describe the scores that the caller may read."""
    if not may_read():
        return []
    return [
        pb.ModelMetadataResponse.TensorMetadata(name=name, datatype=column.datatype, shape=[-1])
        for name, column in _COLUMNS.items()
    ]


def add_output(
    response: pb.ModelInferResponse, name: str, verdicts: Sequence[Verdict], *, raw: bool = True
) -> None:
    """Append a score of each input, in the form that the response's other outputs have."""
    column = _COLUMNS[name]
    numbers = column.numbers(verdicts)
    output = response.outputs.add(name=name, datatype=column.datatype, shape=(len(numbers),))
    if raw:
        response.raw_output_contents.append(numbers.tobytes())
    else:
        getattr(output.contents, column.field).extend(numbers)


def add_reason(response: pb.ModelInferResponse, reason: str) -> None:
    """Say why there are no scores, to a caller that may read them."""
    if may_read():
        response.parameters["mad.unscored"].string_param = reason


def written(name: str, verdicts: Sequence[Verdict]) -> Output:
    """Write a score of each input as raw bytes."""
    column = _COLUMNS[name]
    return Output(name, column.datatype, (len(verdicts),), column.numbers(verdicts).tobytes())


def all_raw(verdicts: Sequence[Verdict]) -> bytes:
    """Encode the elements of all scores, one output after the other."""
    if len(verdicts) > 1:
        return b"".join(wire.raw(written(name, verdicts).content) for name in NAMES)
    (it,) = verdicts
    return _OF_ONE.pack(
        *(_EIGHT, it.surprise_bits, _EIGHT, it.mechanism_bits, _EIGHT, it.novelty_bits),
        *(_EIGHT, it.p_value, _ONE, it.is_alert),
    )


def parameters(revision: str, verdicts: Sequence[Verdict], alert_ids: Collection[str]) -> bytes:
    """Say what was found in a few encoded parameters; in none to a caller that may not read it."""
    return found(revision, verdicts, alert_ids) if may_read() else b""


def found(revision: str, verdicts: Sequence[Verdict], alert_ids: Collection[str]) -> bytes:
    """Say what was found, to a caller that may read it."""
    is_alert, most = any(map(_IS_ALERT, verdicts)), max(map(_BITS, verdicts))
    said = _before_most(revision, is_alert) + wire.real("mad.surprise_bits_max", most)
    if alert_ids:
        said += wire.text("mad.alert_ids", ",".join(filter(None, alert_ids)))
    return said


@lru_cache
def _before_most(revision: str, is_alert: bool) -> bytes:
    return wire.text("mad.baseline", revision) + wire.truth("mad.alert", value=is_alert)
