"""``mad train``: dictionaries from trusted data."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mad.cli import screen
from mad.cli.options import Config

if TYPE_CHECKING:
    from mad.components.dictionaries.plan import DictionaryFigures


def train(config: Config) -> None:
    """Train the dictionaries on the fitting part of the trusted data."""
    from mad.deployment import Deployment

    deployment = Deployment.load(config)
    with screen.progress() as progress:
        figures = deployment.train(deployment.trusted(), progress=progress)
    show_figures(figures)
    screen.say(f"dictionaries written to {deployment.settings.decomposition.path}")


def show_figures(figures: Sequence["DictionaryFigures"]) -> None:
    """Print how well each dictionary explains the vectors it was trained on."""
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
