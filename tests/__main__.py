"""The tests, in stages that each take the machine as they need it: ``python -m tests [--slow]``.

Quick tests run side by side, and so do slow ones. Tests marked ``alone`` measure time or memory, so
they run one by one. With ``--coverage`` the quick ones are traced, which takes them two thirds more
processor time, and must cover what pyproject.toml asks for. The last line sums all stages up.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

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
        summary, code = _run(options)
        ends += _counted(summary)
        if code:
            broken.append(name)
    told = ", ".join(f"{ends[end]} {end}" for end in _ENDS if ends[end])
    failed = f"; not passed: {', '.join(broken)}" if broken else ""
    _say(f"{told} in {time.monotonic() - start:.2f}s{failed}")
    return bool(broken)


def _run(options: Sequence[str]) -> tuple[str, int]:
    """Run a stage, passing on what it prints; return its summary and exit code."""
    # Programs that tests start would each take every processor otherwise.
    alike = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", *options]
    summary = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=alike) as process:
        assert process.stdout is not None
        for line in process.stdout:
            _say(line.rstrip("\n"))
            if _SUMMARY.match(line):
                summary = line
    return summary, process.returncode


def _counted(summary: str) -> Counter[str]:
    found = re.findall(r"(\d+) (\w+)", summary)
    return Counter({end.replace("errors", "error"): int(number) for number, end in found})


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
