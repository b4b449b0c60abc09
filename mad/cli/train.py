"""``mad train``: components from trusted data, or the activations that dictionaries train on."""

from collections.abc import Callable, Iterator, Sequence
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
    from mad.components.parameters.apd.training import ApdFigures
    from mad.components.parameters.training.training import SpdFigures
    from mad.deployment import Deployment

    Told: TypeAlias = StepFigures | SpdFigures | ApdFigures
    Watch: TypeAlias = Callable[[str, int, Told], None]

SettingsFile: TypeAlias = Annotated[
    Path, typer.Option("--config", help="Settings file, such as mad.toml.", show_default=False)
]

Restart: TypeAlias = Annotated[
    bool, typer.Option("--restart", help="Begin anew instead of going on with a killed training.")
]
UNREMARKED = 0.01
"""Share of a layer's squares that trained components may miss without a word."""

Scalars: TypeAlias = Annotated[
    Path | None,
    typer.Option("--tensorboard", help="Directory for TensorBoard's scalars, a folder each."),
]

train = typer.Typer(
    help="Train dictionaries, or a decomposition of weights, on trusted data.", no_args_is_help=True
)


@train.callback()
def _group() -> None:
    """Train dictionaries, or a decomposition of weights, on trusted data."""


@train.command()
def dictionary(
    config: SettingsFile,
    restart: Restart = False,
    tensorboard: Scalars = None,
) -> None:
    """Train the dictionaries on the fitting part of the trusted data.

    A training that was killed goes on at the step it had reached, from checkpoints beside the
    dictionaries, to the same weights.
    """
    from mad.deployment import Deployment

    deployment = Deployment.load(config)
    _check_dictionaries(deployment)
    if restart:
        deployment.untrained.remove()
    with scalars(tensorboard) as watch, screen.progress() as progress:
        figures = deployment.train(deployment.trusted(), progress=progress, watch=watch)
    show_figures(figures)
    screen.say(f"dictionaries written to {deployment.settings.decomposition.path}")


@train.command()
def decomposition(
    config: SettingsFile, restart: Restart = False, tensorboard: Scalars = None
) -> None:
    """Take layers of the model apart, on the fitting part of the trusted data.

    Which layers, and how, is in [decomposition.parameters], where each layer has pieces of its own,
    or in [decomposition.attributions], where components span layers. A training that was killed
    goes on at the step it had reached, from checkpoints beside the decomposition, to the same
    weights.
    """
    from mad.deployment import Deployment

    deployment = Deployment.load(config)
    if deployment.settings.decomposition.sort == "dictionaries":
        raise ConfigError(
            "the settings ask for dictionaries: run `mad train dictionary`, or name the layers to "
            "take apart in a section [decomposition.parameters] or [decomposition.attributions]"
        )
    data = deployment.trusted()
    deployment.check(data)
    if restart:
        deployment.untrained.remove()
    with scalars(tensorboard) as watch, screen.progress() as progress:
        figures = deployment.take_apart(
            data, progress=progress, watch=lambda step, found: watch("decomposition", step, found)
        )
    show_layers(deployment, figures)
    screen.say(f"decomposition written to {deployment.settings.decomposition.path}")


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
    _check_dictionaries(deployment)
    with screen.progress() as progress:
        files = deployment.write_activations(deployment.trusted(), out, progress=progress)
    gigabytes = sum(file.stat().st_size for file in files) / 1e9
    screen.say(
        f"activations of {', '.join(deployment.sites)} written to {out}: {len(files)} files, "
        f"{gigabytes:.2f} GB"
    )


def _check_dictionaries(deployment: "Deployment") -> None:
    if (sort := deployment.settings.decomposition.sort) != "dictionaries":
        raise ConfigError(
            "the settings take layers apart and ask for no dictionaries: run "
            f"`mad train decomposition`, or remove [decomposition.{sort}] and name sites"
        )


@contextmanager
def scalars(directory: Path | None) -> Iterator["Watch"]:
    """Write each step's figures for TensorBoard, in a folder for each view; None writes nothing.

    Raises:
        ConfigError: the package that writes them is not installed, or the directory refuses them.
    """
    if directory is None:
        yield lambda _name, _step, _found: None
        return
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--tensorboard needs the Python package {error.name}; run: "
            "pip install 'mad[tensorboard]', or leave --tensorboard out"
        ) from error
    writers: dict[str, SummaryWriter] = {}

    def watch(view: str, step: int, found: "Told") -> None:
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


def show_trained(deployment: "Deployment", figures: Sequence["DictionaryFigures"]) -> None:
    """Print how good trained components are, of whatever sort."""
    if deployment.settings.decomposition.sort == "dictionaries":
        show_figures(figures)
    else:
        show_layers(deployment, figures)


def show_figures(figures: Sequence["DictionaryFigures"]) -> None:
    """Print how well each dictionary explains its vectors; complain of empty ones."""
    columns = ("view", "unexplained variance", "active latents", "dead latents")
    screen.table("Dictionaries", columns, [_row(one) for one in figures])
    for one in figures:
        if one.active_latents == 0:
            screen.complain(
                f"no latent of {one.view} is active on what it was trained on, so that nothing is "
                "told apart there: drop the site, or train again with another decomposition.kind, "
                "such as 'topk'"
            )


def show_layers(deployment: "Deployment", figures: Sequence["DictionaryFigures"]) -> None:
    """Print how well the pieces of each layer explain what it writes; complain of what is amiss."""
    own, sort = deployment.attributed, deployment.settings.decomposition.sort
    pieces = "subcomponents" if own is None else "components"
    columns = ("layer", "unexplained variance", f"active {pieces}", "never active")
    screen.table("Layers", columns, [_row(one) for one in figures])
    for one in figures:
        if one.active_latents == 0:
            dial = "sparsity" if own is None else "simplicity"
            screen.complain(
                f"none of the {pieces} of {one.view} is ever active, so that nothing is told apart "
                f"there: leave the layer out, or train again with a lower decomposition.{sort}."
                f"{dial}"
            )
    for layer, missed in ({} if own is None else own.missed).items():
        if missed > UNREMARKED:
            screen.complain(
                f"the components add up to all but {missed:.2g} of the squares of {layer}: train "
                "again with more decomposition.attributions.steps, or a lower simplicity"
            )


def _row(one: "DictionaryFigures") -> tuple[str, ...]:
    return (
        one.view,
        f"{one.unexplained_variance:.3f}",
        f"{one.active_latents:.1f}",
        f"{one.dead_share:.1%}",
    )
