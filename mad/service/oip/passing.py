"""What is changed of a request on its way upstream, and of the answer on its way back.

The upstream server sees nothing of ours, and the caller nothing that it did not ask for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

from mad.service.oip import inference_pb2 as pb
from mad.service.oip.request import PREFIX, Options
from mad.service.oip.scores import NAMES as SCORES
from mad.service.oip.upstream import UpstreamPlan

_SCORES: Final = frozenset(SCORES)


@final
@dataclass(frozen=True, slots=True)
class Extra:
    """Outputs that are no part of the caller's answer; all of them, where it wants scores only."""

    names: frozenset[str]
    is_all: bool = False


def rewrite(
    request: pb.ModelInferRequest, asked: Options, plan: UpstreamPlan, *, defaults: Sequence[str]
) -> Extra:
    """Take out what is ours, and ask for the activations besides; return what that adds."""
    _take_out_ours(request)
    needed = tuple(plan.activations.values()) + (plan.outputs[:1] if plan.activations else ())
    if not asked.outputs:
        if defaults:
            _ask_for(request, dict.fromkeys((*defaults, *needed)))
        return Extra((frozenset(needed) | _SCORES) - frozenset(plan.outputs))
    own = frozenset(output.name for output in request.outputs)
    if not own:
        _ask_for(request, dict.fromkeys(needed or defaults[:1]))
        return Extra(frozenset(), is_all=True)
    added = [name for name in dict.fromkeys(needed) if name not in own]
    _ask_for(request, added)
    return Extra(frozenset(added))


def hide(response: pb.ModelInferResponse, extra: Extra) -> bool:
    """Take out of an answer what is not the caller's; return whether its elements are raw."""
    raw = response.raw_output_contents
    is_raw = bool(raw) or not response.outputs
    for index in reversed(range(len(response.outputs))):
        if extra.is_all or response.outputs[index].name in extra.names:
            del response.outputs[index]
            if index < len(raw):
                del raw[index]
    for key in [key for key in response.parameters if key.startswith(PREFIX)]:
        del response.parameters[key]
    return is_raw


def _take_out_ours(request: pb.ModelInferRequest) -> None:
    for key in [key for key in request.parameters if key.startswith(PREFIX)]:
        del request.parameters[key]
    for index in reversed(range(len(request.outputs))):
        if request.outputs[index].name in _SCORES:
            del request.outputs[index]


def _ask_for(request: pb.ModelInferRequest, names: Iterable[str]) -> None:
    for name in names:
        request.outputs.add(name=name)
