"""``mad baselines``: what has been fitted, and which version is active."""

from typing import Annotated

import typer

from mad.cli import screen
from mad.cli.options import Config
from mad.config import Settings
from mad.errors import BaselineNotFoundError


def baselines(
    config: Config,
    activate: Annotated[
        str, typer.Option(help="Make name@version the active version of its name.")
    ] = "",
) -> None:
    """List the baselines of the store, or activate one."""
    from mad.baseline.store import BaselineStore, parse_revision

    store = BaselineStore(Settings.load(config).baseline.store)
    if activate:
        name, version = parse_revision(activate)
        if version is None:
            raise BaselineNotFoundError(f"{activate!r} names no version; write name@version")
        store.load(name, version)
        store.activate(name, version)
    screen.table(
        f"Baselines in {store.root}",
        (
            "revision",
            "active",
            "fitted",
            "weighing",
            "reference",
            "alarm rate",
            "alerts go by",
            "above, bits",
            "made",
        ),
        [
            (
                entry.manifest.revision,
                "active" if entry.is_active else "",
                str(entry.manifest.fit_inputs),
                str(entry.manifest.weighing_inputs),
                str(entry.manifest.reference_inputs),
                f"{entry.manifest.false_alarm_rate:g}",
                entry.manifest.alert_on,
                "by context"
                if entry.manifest.by_context
                else f"{entry.manifest.threshold_bits:.1f}",
                f"{entry.manifest.created:%Y-%m-%d %H:%M} UTC",
            )
            for entry in store.entries()
        ],
    )
