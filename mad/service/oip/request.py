"""What a request asks of the scores: a baseline, a kind of traffic, and outputs by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from mad.errors import InputError
from mad.metrics import TRAFFIC, Traffic
from mad.service.oip import inference_pb2 as pb
from mad.service.raw import shown

PREFIX: Final = "mad."
_KINDS: Final[Mapping[str, str]] = {
    "mad.baseline": "string_param",
    "mad.traffic": "string_param",
    "mad.dry_run": "bool_param",
}
_Value: TypeAlias = str | bool


@final
@dataclass(frozen=True, slots=True)
class Options:
    """What a request says to us; ``outputs`` are the names it requests, none meaning all."""

    baseline: str = ""
    traffic: Traffic = "live"
    is_dry_run: bool = False
    outputs: tuple[str, ...] = ()


_NOTHING: Final = Options()


def options(request: pb.ModelInferRequest) -> Options:
    """Read our parameters and the names of outputs; InputError for a parameter we do not know."""
    if not request.parameters and not request.outputs:
        return _NOTHING
    own = {
        key: _value(key, parameter)
        for key, parameter in request.parameters.items()
        if key.startswith(PREFIX)
    }
    return Options(
        baseline=str(own.get("mad.baseline", "")),
        traffic=_traffic(own.get("mad.traffic", "live")),
        is_dry_run=bool(own.get("mad.dry_run", False)),
        outputs=tuple(dict.fromkeys(output.name for output in request.outputs)),
    )


def check_plain(request: pb.ModelInferRequest) -> None:
    """Raise InputError for what other servers do and this one does not, rather than ignore it."""
    if request.parameters and "sequence_id" in request.parameters:
        raise InputError("the request is part of a sequence, and this model keeps no state")
    for output in request.outputs:
        if output.parameters:
            raise InputError(
                f"output {shown(output.name)} has parameters {sorted(output.parameters)}; this "
                "server returns outputs as they are: leave them out"
            )


def _value(key: str, parameter: pb.InferParameter) -> _Value:
    if key not in _KINDS:
        raise InputError(f"parameter {shown(key)} is not known; there is {', '.join(_KINDS)}")
    if (kind := parameter.WhichOneof("parameter_choice")) != _KINDS[key]:
        raise InputError(f"parameter {key} is {kind or 'empty'}; send a {_KINDS[key]}")
    value: _Value = getattr(parameter, _KINDS[key])
    return value


def _traffic(value: _Value) -> Traffic:
    for traffic in TRAFFIC:
        if value == traffic:
            return traffic
    raise InputError(f"mad.traffic is {shown(str(value))}; use one of {', '.join(TRAFFIC)}")
