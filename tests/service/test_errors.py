"""The table of errors is whole, and what is in it is what callers get."""

from collections.abc import Iterator

import grpc
import pytest
from prometheus_client import CollectorRegistry

from mad.errors import InputError, MadError, OverloadedError, ShuttingDownError
from mad.metrics import Metrics
from mad.service.errors import INTERNAL_TEXT, STATUS, answer_to


def kinds(kind: type[MadError] = MadError) -> Iterator[type[MadError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), model="tiny", false_alarm_rates=[])


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_keeps_its_sentence(
    kind: type[MadError], metrics: Metrics
) -> None:
    code, text = answer_to(kind("send at most 64"), metrics, method="Score")
    assert code is STATUS[kind]
    assert text == "send at most 64"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (InputError, grpc.StatusCode.INVALID_ARGUMENT),
        (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (ShuttingDownError, grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_statuses_say_what_a_caller_can_do(
    kind: type[MadError], code: grpc.StatusCode, metrics: Metrics
) -> None:
    assert answer_to(kind(), metrics, method="Score")[0] is code


def test_our_mistakes_are_logged_and_tell_the_caller_nothing(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    answer = answer_to(ZeroDivisionError("the weights are 42"), metrics, method="Score")
    assert answer == (grpc.StatusCode.INTERNAL, INTERNAL_TEXT)
    assert "the weights are 42" in caplog.text
    assert "42" not in INTERNAL_TEXT
