"""``mad baselines``: what has been fitted, on whose data, and which version is active."""

from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen
from mad.cli.options import Config
from mad.config import Settings
from mad.errors import BaselineNotFoundError

if TYPE_CHECKING:
    from mad.baseline.store import Entry


def baselines(
    config: Config,
    activate: Annotated[
        str,
        typer.Option(help="Make name@version active whatever the gates say; see `mad promote`."),
    ] = "",
    delete: Annotated[str, typer.Option(help="Remove name@version for good.")] = "",
) -> None:
    """List the baselines of the store, activate one, or delete one."""
    from mad.baseline.store import BaselineStore

    store = BaselineStore(Settings.load(config).baseline.store)
    if activate:
        name, version = _numbered(activate)
        store.load(name, version)
        store.activate(name, version)
    if delete:
        store.delete(*_numbered(delete))
    screen.table(
        f"Baselines in {store.root}",
        (
            "revision",
            "alias",
            "fitted",
            "weighing",
            "reference",
            "alarm rate",
            "alerts go by",
            "above, bits",
            "made",
            "by",
            "data from",
            "set aside",
        ),
        [
            (
                entry.manifest.revision,
                ", ".join(entry.aliases),
                str(entry.manifest.fit_inputs),
                str(entry.manifest.weighing_inputs),
                str(entry.manifest.reference_inputs),
                f"{entry.manifest.false_alarm_rate:g}",
                entry.manifest.alert_on,
                "by context"
                if entry.manifest.by_context
                else f"{entry.manifest.threshold_bits:.1f}",
                f"{entry.manifest.created:%Y-%m-%d %H:%M} UTC",
                entry.provenance.principal,
                entry.provenance.source,
                _set_aside(entry),
            )
            for entry in store.entries()
        ],
    )


def _numbered(revision: str) -> tuple[str, int]:
    from mad.baseline.store import parse_revision

    name, version = parse_revision(revision)
    if version is None:
        raise BaselineNotFoundError(f"{revision!r} names no version; write name@version")
    return name, version


def _set_aside(entry: "Entry") -> str:
    """Say how much of the data was; nothing where nobody looked."""
    found = entry.provenance
    return f"{found.quarantined_inputs} of {found.inputs}" if found.inputs else ""
