"""Scores as outputs and parameters of a response, beside the model's own."""

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

from mad.errors import ForbiddenError
from mad.service.answering import Answer
from mad.service.caller import caller
from mad.service.oip import inference_pb2 as pb
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


def _real(of: Callable[[Verdict], float]) -> _Column:
    return _Column("FP64", "fp64_contents", "d", of)


_COLUMNS: Final[Mapping[str, _Column]] = {
    "mad.surprise_bits": _real(lambda verdict: verdict.surprise_bits),
    "mad.mechanism_bits": _real(lambda verdict: verdict.mechanism_bits),
    "mad.novelty_bits": _real(lambda verdict: verdict.novelty_bits),
    "mad.p_value": _real(lambda verdict: verdict.p_value),
    "mad.is_alert": _Column("BOOL", "bool_contents", "B", lambda verdict: verdict.is_alert),
}
NAMES: Final = tuple(_COLUMNS)
"""The outputs that are scores."""


def may_read() -> bool:
    """Tell whether the caller may see scores, be it in steps: an answer has what it may see."""
    return bool(caller.get().roles & {"score.read", "score.coarse"})


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
    numbers = list(map(column.of, verdicts))
    output = response.outputs.add(name=name, datatype=column.datatype, shape=(len(numbers),))
    if raw:
        response.raw_output_contents.append(array(column.code, numbers).tobytes())
    else:
        getattr(output.contents, column.field).extend(numbers)


def add_reason(response: pb.ModelInferResponse, reason: str) -> None:
    """Say why there are no scores, to a caller that may read them."""
    if may_read():
        response.parameters["mad.unscored"].string_param = reason


def written(name: str, verdicts: Sequence[Verdict]) -> Output:
    """Write a score of each input as raw bytes."""
    column = _COLUMNS[name]
    content = array(column.code, map(column.of, verdicts)).tobytes()
    return Output(name, column.datatype, (len(verdicts),), content)


def add_parameters(response: pb.ModelInferResponse, revision: str, answer: Answer) -> None:
    """Say what was found in a few parameters, if the caller may read them."""
    if not may_read():
        return
    verdicts = answer.judgement.verdicts
    parameters = response.parameters
    parameters["mad.baseline"].string_param = revision
    parameters["mad.alert"].bool_param = any(verdict.is_alert for verdict in verdicts)
    parameters["mad.surprise_bits_max"].double_param = max(it.surprise_bits for it in verdicts)
    if answer.alert_ids:
        parameters["mad.alert_ids"].string_param = ",".join(filter(None, answer.alert_ids.values()))
