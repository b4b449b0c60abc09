"""``mad train``: dictionaries from trusted data, or the activations that dictionaries train on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from mad.cli import screen
from mad.errors import ConfigError

if TYPE_CHECKING:
    from mad.components.dictionaries.plan import DictionaryFigures
    from mad.components.dictionaries.training import StepFigures
    from mad.fit import StepWatch

SettingsFile: TypeAlias = Annotated[
    Path, typer.Option("--config", help="Settings file, such as mad.toml.", show_default=False)
]

train = typer.Typer(help="Train dictionaries on trusted data.", no_args_is_help=True)


@train.callback()
def _group() -> None:
    """Train dictionaries on trusted data."""


@train.command()
def dictionary(
    config: SettingsFile,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Begin anew instead of going on with a killed training."),
    ] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(help="Directory for TensorBoard's scalars, one folder a dictionary."),
    ] = None,
) -> None:
    """Train the dictionaries on the fitting part of the trusted data.

    A training that was killed goes on at the step it had reached, from checkpoints beside the
    dictionaries, to the same weights.
    """
    from mad.deployment import Deployment

    deployment = Deployment.load(config)
    if restart:
        deployment.untrained.remove()
    with scalars(tensorboard) as watch, screen.progress() as progress:
        figures = deployment.train(deployment.trusted(), progress=progress, watch=watch)
    show_figures(figures)
    screen.say(f"dictionaries written to {deployment.settings.decomposition.path}")


@train.command()
def activations(
    config: SettingsFile,
    out: Annotated[Path, typer.Option(help="Directory for the files; it holds none yet.")],
) -> None:
    """Write what the sites give for the fitting part of the trusted data, to train on often.

    Name the directory as ``decomposition.activations``: the model is not run for training then.
    """
    from mad.deployment import Deployment

    deployment = Deployment.load(config)
    with screen.progress() as progress:
        files = deployment.write_activations(deployment.trusted(), out, progress=progress)
    gigabytes = sum(file.stat().st_size for file in files) / 1e9
    screen.say(
        f"activations of {', '.join(deployment.sites)} written to {out}: {len(files)} files, "
        f"{gigabytes:.2f} GB"
    )


@contextmanager
def scalars(directory: Path | None) -> Iterator["StepWatch"]:
    """Write each step's figures for TensorBoard, in a folder for each view; None writes nothing.

    Raises:
        ConfigError: the package that writes them is not installed, or the directory refuses them.
    """
    from mad.fit import unwatched

    if directory is None:
        yield unwatched
        return
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--tensorboard needs the Python package {error.name}; run: "
            "pip install 'mad[tensorboard]', or leave --tensorboard out"
        ) from error
    writers: dict[str, SummaryWriter] = {}

    def watch(view: str, step: int, found: "StepFigures") -> None:
        if view not in writers:
            # What an earlier run wrote after the checkpoint that this one goes on from is hidden.
            folder = str(directory / view.replace(":", "_").replace("/", "_"))
            try:
                writers[view] = SummaryWriter(folder, purge_step=step)
            except OSError as cause:
                raise ConfigError(
                    f"cannot write scalars to {folder}: {cause.strerror}; name another directory "
                    "with --tensorboard"
                ) from cause
        for name, value in asdict(found).items():
            writers[view].add_scalar(name, value, step)

    try:
        yield watch
    finally:
        for writer in writers.values():
            writer.close()


def show_figures(figures: Sequence["DictionaryFigures"]) -> None:
    """Print how well each dictionary explains its vectors; complain of empty ones."""
    screen.table(
        "Dictionaries",
        ("view", "unexplained variance", "active latents", "dead latents"),
        [
            (
                one.view,
                f"{one.unexplained_variance:.3f}",
                f"{one.active_latents:.1f}",
                f"{one.dead_share:.1%}",
            )
            for one in figures
        ],
    )
    for one in figures:
        if one.active_latents == 0:
            screen.complain(
                f"no latent of {one.view} is active on what it was trained on, so that nothing is "
                "told apart there: drop the site, or train again with another decomposition.kind, "
                "such as 'topk'"
            )
