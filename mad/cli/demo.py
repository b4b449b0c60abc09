"""``mad demo``: the main job on real images that ship with the package."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen
from mad.errors import ConfigError

if TYPE_CHECKING:
    from mad.demo.folder import RunFolder


def demo(
    out: Annotated[
        Path, typer.Option(help="Run folder; the demo's earlier run in it is replaced.")
    ] = Path("demo-run"),
    seed: Annotated[int, typer.Option(help="Seed of everything drawn at random.", min=0)] = 0,
    train: Annotated[
        bool, typer.Option("--train", help="Train both models again instead of shipped weights.")
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the run folder until Ctrl-C; nothing is sent.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Serve it with Prometheus and Alertmanager beside it, send a burst of triggered "
            "images, and show who is told and what the pages look like.",
        ),
    ] = False,
    only_prepare: Annotated[
        bool,
        typer.Option("--prepare", help="Write settings, weights and trusted images, and stop."),
    ] = False,
) -> None:
    """Train, fit, serve, attack and report on real images; exits with 1 if a claim fails."""
    import torch

    try:
        from mad.demo.folder import RunFolder
        from mad.demo.images import read_splits
        from mad.demo.prepare import lay_out
        from mad.demo.run import run
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the demo needs the Python package {error.name}; run: pip install 'mad[bench]'"
        ) from error

    # More threads make sums in another order: figures would depend on the number of cores.
    torch.set_num_threads(1)
    folder = RunFolder(out.absolute())
    if only_prepare:
        with screen.progress() as progress:
            lay_out(folder, read_splits(), seed=seed, retrain=train, progress=progress)
        screen.say(f"settings written to {folder.settings}")
    elif watch:
        _watch(folder, seed=seed, retrain=train)
    elif serve:
        _serve(folder, seed=seed, retrain=train)
    else:
        found = run(folder, seed=seed, retrain=train, bars=screen.progress, console=screen.OUT)
        failed = [claim.sentence for claim in found.claims if not claim.holds]
        for sentence in failed:
            screen.complain(f"this claim failed: {sentence}")
        raise typer.Exit(1 if failed else 0)


def _serve(folder: "RunFolder", *, seed: int, retrain: bool) -> None:
    from mad.demo.server import serve_command

    _prepare(folder, seed=seed, retrain=retrain)
    command = serve_command(folder)
    # Ctrl-C and SIGTERM then reach the server itself.
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


def _watch(folder: "RunFolder", *, seed: int, retrain: bool) -> None:
    from mad.demo.images import read_splits
    from mad.demo.watch.programs import find_programs
    from mad.demo.watch.run import ALERT, watch

    # What is missing is told of before a minute of training.
    find_programs()
    _prepare(folder, seed=seed, retrain=retrain)
    seen = watch(folder, read_splits(), seed=seed, say=screen.say)
    if seen.seconds is None:
        screen.complain(f"{ALERT} did not come; see the logs in {folder.watched}")
        raise typer.Exit(1)
    screen.say(f"{ALERT} was at the webhook {seen.seconds:.1f} s after the burst began")


def _prepare(folder: "RunFolder", *, seed: int, retrain: bool) -> None:
    from mad.demo.images import read_splits
    from mad.demo.prepare import prepare

    if not folder.is_prepared:
        with screen.progress() as progress:
            prepare(folder, read_splits(), seed=seed, retrain=retrain, progress=progress)
