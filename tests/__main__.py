"""The tests, in stages that each take the machine as they need it: ``python -m tests [--slow]``.

Quick tests run side by side, and so do slow ones. Tests marked ``alone`` measure time or memory, so
they run one by one. With ``--coverage`` the quick ones are traced, which takes them two thirds more
processor time, and must cover what pyproject.toml asks for. The last line sums all stages up.

Many tests start servers and programs and wait for them, on whatever machine they are given. A few
that failed are therefore tried once more, one by one, and count as passed if they pass then. The
last line says how many did: each is a defect, of the test or of what it tests, whose failure is
printed above. More than a few, or any that fail again, fail the run.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

_SIDE_BY_SIDE: Final = ("-n", "auto", "--dist", "worksteal")
_QUICK: Final[Mapping[str, Sequence[str]]] = {
    "quick": (*_SIDE_BY_SIDE, "-m", "not slow and not alone"),
    "alone": ("-m", "alone and not slow"),
}
_ALL: Final[Mapping[str, Sequence[str]]] = {
    "quick": _QUICK["quick"],
    "slow": (*_SIDE_BY_SIDE, "-m", "slow and not alone"),
    "alone": ("-m", "alone"),
}
_SUMMARY: Final = re.compile(r"\d+ .+ in [\d.]+s")
_ENDS: Final = ("failed", "passed", "skipped", "xfailed", "error")
_MOST_AGAIN: Final = 3
"""More failures than this are no accident of the machine."""
_AGAIN: Final = "again"


class _Outcome(NamedTuple):
    """How a stage ended: its tests by end, the exit code, and which tests did not pass."""

    ends: Counter[str]
    code: int
    failed: Sequence[str]


def main() -> int:
    """Run every stage, whatever came of the one before; 0 if all passed."""
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("--slow", action="store_true", help="run the slow tests too")
    parser.add_argument("--coverage", action="store_true", help="trace the quick tests")
    asked = parser.parse_args()
    stages = dict(_ALL if asked.slow else _QUICK)
    if asked.coverage:
        stages["quick"] = ("--cov", *stages["quick"])
    start = time.monotonic()
    ends: Counter[str] = Counter()
    broken = []
    for name, options in stages.items():
        _say(f"--- {name}: pytest {' '.join(options)}")
        outcome = _run(options)
        if 0 < len(outcome.failed) <= _MOST_AGAIN and not asked.coverage:
            outcome = _again(outcome)
        ends += outcome.ends
        if outcome.code:
            broken.append(name)
    told = ", ".join(f"{ends[end]} {end}" for end in _ENDS if ends[end])
    shaky = f", {ends[_AGAIN]} of them only when tried again" if ends[_AGAIN] else ""
    failed = f"; not passed: {', '.join(broken)}" if broken else ""
    _say(f"{told}{shaky} in {time.monotonic() - start:.2f}s{failed}")
    return bool(broken)


def _again(before: _Outcome) -> _Outcome:
    """Try tests that failed one by one, and put what comes of it in place of what came before."""
    _say(f"--- again, one by one: {' '.join(before.failed)}")
    outcome = _run(("-m", "", *before.failed))
    if outcome.code:
        return before
    ends = before.ends - Counter(failed=len(before.failed), error=len(before.failed))
    return _Outcome(ends + outcome.ends + Counter({_AGAIN: len(before.failed)}), 0, ())


def _run(options: Sequence[str]) -> _Outcome:
    """Run a stage, passing on what it prints."""
    # Programs that tests start would each take every processor otherwise, and where an environment
    # keeps no compiled modules, each would compile all of ours: most of a second.
    alike = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    summary = ""
    with TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={cache}", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=alike) as process:
            assert process.stdout is not None
            for line in process.stdout:
                _say(line.rstrip("\n"))
                if _SUMMARY.match(line):
                    summary = line
        return _Outcome(_counted(summary), process.returncode, _failed(Path(cache)))


def _failed(cache: Path) -> Sequence[str]:
    """Return which tests pytest has noted as failed."""
    noted = cache / "v/cache/lastfailed"
    return list(json.loads(noted.read_text())) if noted.exists() else []


def _counted(summary: str) -> Counter[str]:
    found = re.findall(r"(\d+) (\w+)", summary)
    return Counter({end.replace("errors", "error"): int(number) for number, end in found})


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
