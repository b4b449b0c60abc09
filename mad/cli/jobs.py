"""``mad jobs``: trusted inputs to a running server, and what becomes of its fits."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen
from mad.cli.alerts import explained
from mad.cli.remote import At, connect
from mad.config import Address
from mad.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mad.client import Array
    from mad.client.fitting import FitJob

COLUMNS = ("job", "baseline", "state", "version", "inputs", "set aside", "at", "committed", "why")
ROWS_AT_ONCE = 4096


def jobs(  # noqa: PLR0913  # one option each
    send: Annotated[
        list[Path] | None,
        typer.Argument(help="Trusted inputs to fit on: .npz, .safetensors or .parquet."),
    ] = None,
    *,
    address: At = "127.0.0.1:8001",
    array: Annotated[
        list[str] | None, typer.Option(help="Send only this array, and others named so.")
    ] = None,
    name: Annotated[str, typer.Option(help="Baseline to fit; default: the server's.")] = "",
    source: Annotated[str, typer.Option(help="Where the inputs are from, in your words.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the fit has ended.")] = False,
    cancel: Annotated[str, typer.Option(help="End this job.")] = "",
) -> None:
    """Send trusted inputs to a server for a fit, cancel a fit, or list them all."""
    import grpc

    from mad.client import fit_config

    server = Address.parse(address)
    try:
        with connect(server) as client:
            if send:
                config = fit_config(name=name, source=source)
                job = client.fits.send(_read(send, array or ()), config)
                shown: Sequence[FitJob] = [client.fits.wait(job.job_id) if wait else job]
            elif cancel:
                shown = [client.fits.cancel(cancel)]
            else:
                shown = client.fits.jobs(name).jobs
    except grpc.RpcError as error:
        raise explained(error, server) from error
    _show(shown)
    if send and wait and not shown[0].revision:
        raise InputError(f"no version was fitted: {shown[0].error or 'the job was cancelled'}")


def _read(paths: "Sequence[Path]", names: "Sequence[str]") -> "Iterator[Mapping[str, Array]]":
    """Read files a few rows at a time, so that they may be larger than memory."""
    import torch

    from mad.arrays import open_dataset

    data = open_dataset(paths, names=names)
    for rows in torch.arange(len(data)).split(ROWS_AT_ONCE):
        yield data.take(rows)


def _show(shown: "Sequence[FitJob]") -> None:
    from mad.client import job_state

    screen.table(
        "Fit jobs",
        COLUMNS,
        [
            (
                job.job_id,
                job.baseline,
                job_state(job),
                job.revision,
                str(job.provenance.inputs),
                str(job.provenance.quarantined_inputs),
                f"{job.stage} {job.done} of {job.total}" if job.stage else "",
                f"{job.create_time.ToDatetime():%Y-%m-%d %H:%M:%S}",
                job.error,
            )
            for job in shown
        ],
    )
