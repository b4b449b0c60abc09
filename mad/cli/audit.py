"""``mad audit``: check that nobody edited the audit log, and show its last records."""

from collections import deque
from typing import Annotated

import typer

from mad.cli import screen
from mad.cli.options import Config
from mad.config import Settings

COLUMNS = ("record", "time", "who", "event", "what", "facts")


def audit(
    config: Config,
    known: Annotated[
        str, typer.Option(help="Digest of a record, noted earlier, that must be in the log.")
    ] = "",
    limit: Annotated[int, typer.Option(help="Records to show.", min=0, max=10_000)] = 20,
) -> None:
    """Verify every record, show the newest, and print the digest to note elsewhere."""
    from mad.audit import records, verify

    path = Settings.load(config).security.audit_log
    chain = verify(path, known=known)
    rows = [
        (
            str(record.sequence),
            f"{record.time:%Y-%m-%d %H:%M:%S}",
            record.principal,
            record.event,
            record.subject,
            ", ".join(f"{name} {value}" for name, value in record.fields.items()),
        )
        for record in deque(records(path), maxlen=limit)
    ]
    screen.table(f"Newest records of {path}", COLUMNS, rows[::-1])
    if chain.torn_bytes:
        screen.say(f"{chain.torn_bytes} bytes of a record that is being written, or was torn.")
    screen.say(f"{chain.count} records, each follows the one before; head {chain.head}")
