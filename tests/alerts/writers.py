"""A program that appends to a log of alerts, one at a time."""

import subprocess
import sys
from collections.abc import Sequence

# Prints each id once the log has promised to keep it.
_WRITER = """
import sys
from datetime import UTC, datetime
from mad.alerts.log import AlertLog
from mad.types import Alert, Explanation, Verdict

url, name, count = sys.argv[1:]
log = AlertLog.open(url)
verdict = Verdict(6.6, 6.6, 1.0, 9.0, 0.01, True, (), -1, 1)
explanation = Explanation((), 9.0)
for number in range(int(count)):
    alert = Alert(
        f"{name}-{number}", datetime.now(UTC), "demo", "default", 1, "", 0, "", verdict, explanation
    )
    print(*log.append([alert]), flush=True)
log.close()
"""


def start_writer(
    url: str, name: str, *, count: int, before: Sequence[str] = ()
) -> "subprocess.Popen[str]":
    """Append so many alerts, named for the writer and numbered from 0."""
    return subprocess.Popen(
        [*before, sys.executable, "-c", _WRITER, url, name, str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
