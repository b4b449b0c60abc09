"""``mad demo``: the main job on real images that ship with the package."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mad.cli import screen
from mad.errors import ConfigError


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
        from mad.demo.prepare import lay_out, prepare
        from mad.demo.run import run
        from mad.demo.server import serve_command
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
        return
    if not serve:
        found = run(folder, seed=seed, retrain=train, bars=screen.progress, console=screen.OUT)
        failed = [claim.sentence for claim in found.claims if not claim.holds]
        for sentence in failed:
            screen.complain(f"this claim failed: {sentence}")
        raise typer.Exit(1 if failed else 0)
    if not folder.is_prepared:
        with screen.progress() as progress:
            prepare(folder, read_splits(), seed=seed, retrain=train, progress=progress)
    command = serve_command(folder)
    # Ctrl-C and SIGTERM then reach the server itself.
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted
