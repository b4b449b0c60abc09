"""Send traffic through the client, and read back what the server counted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.request import urlopen

import torch
from jaxtyping import UInt8
from prometheus_client.parser import text_string_to_metric_families
from torch import Tensor

from mad.client import Client, request
from mad.errors import OverloadedError
from mad.types import Bits, Measure, Progress

REQUEST_INPUTS = 50


@dataclass(frozen=True)
class Answers:
    """What the server said of one kind of traffic, in the order of its images.

    ``rarity`` is in bits, ``alarms`` counts verdicts that are worth an alert, and ``alert_ids``
    names the alerts raised.
    """

    rarity: Mapping[Measure, Bits]
    alarms: int
    alert_ids: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rarity["surprise"])


@dataclass(frozen=True)
class Counters:
    """What ``/metrics`` says: inputs scored, p-values within the false-alarm rate, alerts."""

    scored: int
    within_rate: int
    alerts: int


def request_id(kind: str, number: int) -> str:
    """Name one request of one kind of traffic, so that alerts lead back to its images."""
    return f"{kind}-{number}"


def image_of(request_id: str, input_index: int) -> tuple[str, int]:
    """Return the kind of traffic, and the image in it, that an alert is about."""
    kind, _, number = request_id.rpartition("-")
    return kind, int(number) * REQUEST_INPUTS + input_index


def send(
    client: Client, kind: str, images: UInt8[Tensor, "batch 28 28"], *, progress: Progress
) -> Answers:
    """Stream images as one kind of traffic and wait for every answer.

    Raises:
        OverloadedError: the server refused a request; the sentence is its own.
    """
    stage, done = f"streaming {kind} images", 0
    progress(stage, done=0, total=len(images))
    requests = (
        request({"image": part}, request_id=request_id(kind, number))
        for number, part in enumerate(images.split(REQUEST_INPUTS))
    )
    answers = {}
    for answer in client.stream(requests):
        if answer.WhichOneof("result") == "error":
            raise OverloadedError(f"request {answer.request_id}: {answer.error.message}")
        answers[answer.request_id] = answer.response.scores
        done += len(answer.response.scores)
        progress(stage, done=done, total=len(images))
    scores = [
        score for number in range(len(answers)) for score in answers[request_id(kind, number)]
    ]
    return Answers(
        {
            "surprise": _column(score.verdict.surprise_bits for score in scores),
            "mechanism": _column(score.verdict.mechanism_bits for score in scores),
            "novelty": _column(score.verdict.novelty_bits for score in scores),
        },
        sum(score.verdict.is_alert for score in scores),
        tuple(score.alert_id for score in scores if score.alert_id),
    )


def _column(bits: Iterable[float]) -> Bits:
    return torch.tensor(list(bits), dtype=torch.float64)


def read_counters(url: str, *, false_alarm_rate: float) -> Counters:
    """Read the counters over HTTP, as Prometheus does, summed over labels."""
    with urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310  # a URL we made
        text = answer.read().decode()
    within = {"le": str(false_alarm_rate)}
    return Counters(
        scored=_total(text, "mad_inputs_scored_total"),
        within_rate=_total(text, "mad_p_value_bucket", within),
        alerts=_total(text, "mad_alerts_total"),
    )


def _total(text: str, name: str, labels: Mapping[str, str] | None = None) -> int:
    wanted = (labels or {}).items()
    return sum(
        int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and wanted <= sample.labels.items()
    )
