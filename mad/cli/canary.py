"""``mad canary``: planted anomalies through a running server, and how many of them it finds."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, final

import typer

from mad.cli import screen
from mad.cli.alerts import explained
from mad.cli.remote import At, connect
from mad.config import Address
from mad.errors import ForbiddenError, MadError

if TYPE_CHECKING:
    from mad.client import Client
    from mad.types import Dataset, Inputs

REQUEST_BYTES = 1 << 20
MOST_ROWS = 64
COLUMNS = ("traffic", "alpha", "inputs", "at or under", "share", "at least", "at most", "wanted")


@final
@dataclass(frozen=True)
class _Sample:
    """Inputs of a file, and what they are evidence of."""

    traffic: Literal["canary", "trusted"]
    data: "Dataset"

    @staticmethod
    def of(traffic: Literal["canary", "trusted"], path: Path) -> "_Sample":
        """Open a file."""
        from mad.arrays import open_dataset

        return _Sample(traffic, open_dataset([path]))

    def batches(self) -> Iterator["Inputs"]:
        """Read it a request at a time: few rows, and no more bytes than any server takes."""
        import torch

        first = self.data.take(torch.arange(1))
        size = sum(tensor.nbytes for tensor in first.values())
        rows = max(1, min(MOST_ROWS, REQUEST_BYTES // max(size, 1)))
        for some in torch.arange(len(self.data)).split(rows):
            yield self.data.take(some)


def canary(
    planted: Annotated[
        Path,
        typer.Argument(
            help="Planted anomalies as named arrays: .npz, .safetensors or .parquet.",
            show_default=False,
        ),
    ],
    address: At = "127.0.0.1:8001",
    trusted: Annotated[
        Path | None, typer.Option(help="Also send these, which are known to be ordinary.")
    ] = None,
    baseline: Annotated[
        str, typer.Option(help="name or name@version; default: the server's.")
    ] = "",
    at_least: Annotated[
        float, typer.Option(help="Share to be found at the baseline's own rate.", min=0, max=1)
    ] = 0.0,
    every: Annotated[
        float, typer.Option(help="Seconds between rounds, until Ctrl-C; 0 sends once.", min=0)
    ] = 0.0,
) -> None:
    """Send planted anomalies, count those found at each alpha; exit with 1 if too few are."""
    server = Address.parse(address)
    samples = [_Sample.of("canary", planted)]
    samples += [_Sample.of("trusted", trusted)] if trusted else []
    is_enough = _round(server, samples, baseline, at_least)
    try:
        while every:
            time.sleep(every)
            is_enough = _tried(server, samples, baseline, at_least)
    except KeyboardInterrupt:
        pass
    raise typer.Exit(0 if is_enough else 1)


def _tried(server: Address, samples: Sequence[_Sample], baseline: str, at_least: float) -> bool:
    """Send another round; a server that is away for a while ends no schedule."""
    try:
        return _round(server, samples, baseline, at_least)
    except MadError as error:
        screen.complain(str(error))
        return False


def _round(server: Address, samples: Sequence[_Sample], baseline: str, at_least: float) -> bool:
    """Send every sample once, show what was found, and return whether it was enough."""
    import grpc

    rows: list[tuple[str, ...]] = []
    try:
        with connect(server) as client:
            # Asked first: who may not read rates is told so before anything is sent.
            rates = [rate.nominal for rate in client.calibration(baseline).rates]
            found = {one.traffic: _p_values(client, one, baseline) for one in samples}
    except grpc.RpcError as error:
        raise explained(error, server) from error
    for traffic, p in found.items():
        rows += _rows(traffic, p, rates, at_least)
    screen.table(f"Found by {server}, with 99 % confidence", COLUMNS, rows)
    share = sum(p <= rates[0] for p in found["canary"]) / len(found["canary"])
    if share < at_least:
        screen.complain(
            f"{share:.1%} of {len(found['canary'])} planted anomalies were found at "
            f"{rates[0]:g}, fewer than the {at_least:.1%} wanted: is the baseline still the one "
            "they were planted for? `mad baselines` shows versions, `mad rollback` goes back"
        )
    screen.OUT.file.flush()
    return share >= at_least


def _p_values(client: "Client", sample: _Sample, baseline: str) -> list[float]:
    from mad.client import request, traffic_options

    options = traffic_options(sample.traffic)
    p: list[float] = []
    for inputs in sample.batches():
        answer = client.score(request(inputs, baseline=baseline, options=options))
        p += [score.verdict.p_value for score in answer.scores]
    if any(map(math.isnan, p)):
        raise ForbiddenError(
            "p-values are told to callers with the role score.read alone; ask for it"
        )
    return p


def _rows(
    traffic: str, p: Sequence[float], rates: Sequence[float], at_least: float
) -> Iterator[tuple[str, ...]]:
    from mad.calibration.health import binomial_interval

    for alpha in (rates[0], *sorted(rates[1:])):
        count = sum(one <= alpha for one in p)
        low, high = binomial_interval(count, len(p))
        is_bound = traffic == "canary" and alpha == rates[0]
        yield (
            traffic,
            f"{alpha:g}",
            str(len(p)),
            str(count),
            f"{count / len(p):.1%}",
            f"{low:.1%}",
            f"{high:.1%}",
            f"{at_least:.1%}" if is_bound and at_least else "",
        )
