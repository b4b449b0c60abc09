"""The audit log: what was acknowledged stays, and nobody edits it unseen."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from mad.audit import GENESIS, MAX_RECORD_BYTES, AuditLog, Chain, records, verify
from mad.errors import AuditError

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ENDLESS = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from mad.audit import AuditLog
log = AuditLog.open(Path(sys.argv[1]), clock=lambda: datetime.now(UTC))
while True:
    print(log.append("tick", principal="p", subject="s" * 200).sequence, flush=True)
"""


def opened(path: Path) -> AuditLog:
    return AuditLog.open(path, clock=lambda: NOON)


@contextmanager
def writing(path: Path) -> Iterator[AuditLog]:
    log = opened(path)
    try:
        yield log
    finally:
        log.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a log of five records."""
    path = tmp_path / "audit.jsonl"
    with writing(path) as log:
        for number in range(1, 6):
            log.append("promote", principal="ada", subject=f"default@{number}")
    return path


def test_a_record_is_a_line_that_holds_the_digest_of_the_line_before(path: Path) -> None:
    first, second, *_ = path.read_bytes().splitlines(keepends=True)
    assert json.loads(first) == {
        "sequence": 1,
        "time": "2026-01-02T12:00:00+00:00",
        "event": "promote",
        "principal": "ada",
        "subject": "default@1",
        "fields": {},
        "previous": "0" * 64,
    }
    assert json.loads(second)["previous"] == sha256(first).hexdigest()


def test_a_log_that_nobody_touched_verifies(path: Path) -> None:
    last = path.read_bytes().splitlines(keepends=True)[-1]
    assert verify(path) == Chain(5, sha256(last).hexdigest(), 0)


def test_an_empty_log_verifies(tmp_path: Path) -> None:
    opened(tmp_path / "new" / "audit.jsonl").close()
    assert verify(tmp_path / "new" / "audit.jsonl") == Chain(0, GENESIS, 0)


def test_a_log_is_its_owner_s_alone(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def edited(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b"ada", b"eve"), *lines[3:]]


@pytest.mark.parametrize(
    ("forge", "broken"),
    [
        (edited, 4),
        (lambda lines: lines[:2] + lines[3:], 3),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], 3),
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[0], b"{}\n", *lines[2:]], 2),
        (lambda lines: [lines[0], b"garbage\n", *lines[2:]], 2),
        (lambda lines: [lines[0], b"[" * 60_000 + b"\n", *lines[2:]], 2),
        (lambda lines: [lines[0], b"x" * 200_000 + b"\n", *lines[2:]], 2),
        (lambda lines: [lines[0], lines[1].replace(b":2,", b':"2",'), *lines[2:]], 2),
    ],
)
def test_the_first_broken_record_is_named(
    path: Path, forge: Callable[[list[bytes]], list[bytes]], broken: int
) -> None:
    path.write_bytes(b"".join(forge(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(AuditError, match=f"record {broken} of "):
        verify(path)


def test_a_digest_noted_elsewhere_shows_that_the_end_was_cut_off(path: Path) -> None:
    noted = verify(path).head
    assert verify(path, known=noted).count == 5
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    assert verify(path).count == 4
    with pytest.raises(AuditError, match=r"no record of .* has the digest"):
        verify(path, known=noted)


def test_a_log_goes_on_where_it_ended(path: Path) -> None:
    with writing(path) as log:
        assert log.chain.count == 5
        assert log.append("rollback", principal="", subject="").sequence == 6
    assert verify(path).count == 6


def test_a_second_writer_is_refused(path: Path) -> None:
    with writing(path), pytest.raises(AuditError, match="another writer"):
        opened(path)
    opened(path).close()


@pytest.mark.parametrize("kept_share", [0.0, 0.01, 0.5, 0.99])
def test_a_torn_record_is_moved_aside_and_told_of(path: Path, kept_share: float) -> None:
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    cut = start + int(kept_share * (len(whole) - start))
    path.write_bytes(whole[:cut])
    if kept_share:
        assert verify(path).torn_bytes == cut - start
    with writing(path) as log:
        log.append("after", principal="", subject="")
    events = [record.event for record in records(path)]
    assert events == ["promote"] * 4 + ["audit.torn"] * (kept_share > 0) + ["after"]
    aside = [file.read_bytes() for file in path.parent.glob("*.torn-*")]
    assert aside == [whole[start:cut]] * (kept_share > 0)
    assert verify(path).torn_bytes == 0


@pytest.mark.parametrize("content", [b"x" * 500_000, b"no log\n", b"\n", b"x" * 500_000 + b"\n"])
def test_a_file_that_is_no_log_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "precious.txt"
    file.write_bytes(content)
    with pytest.raises(AuditError):
        opened(file)
    assert file.read_bytes() == content


def test_threads_write_one_chain(path: Path) -> None:
    with writing(path) as log, ThreadPoolExecutor(8) as pool:
        tickets = [
            pool.submit(log.append, "auth", principal=str(n), subject="") for n in range(100)
        ]
        numbers = {ticket.result().sequence for ticket in tickets}
    assert numbers == set(range(6, 106))
    assert verify(path).count == 105


def test_a_full_disk_loses_nothing_and_writing_goes_on_afterwards(path: Path) -> None:
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with writing(path) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, hard))
        try:
            with pytest.raises(AuditError, match="nothing was recorded"):
                log.append("promote", principal="ada", subject="default@6")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, ignored)
        assert path.read_bytes().startswith(before)
        assert log.append("promote", principal="ada", subject="default@7").sequence == 6
    assert verify(path) == Chain(6, log.chain.head, 0)


def test_what_json_cannot_hold_is_recorded_in_words(tmp_path: Path) -> None:
    with writing(tmp_path / "a") as log:
        facts = {"value": float("nan"), "path": Path("b"), "each": (1, float("inf")), "of": {1: 2}}
        log.append("gate", principal="", subject="line\nbreak \u2028", fields=facts)
    (record,) = records(tmp_path / "a")
    assert record.fields == {"value": "nan", "path": "b", "each": [1, "inf"], "of": {"1": 2}}
    assert record.subject == "line\nbreak \u2028"


def test_a_record_too_long_is_refused(tmp_path: Path) -> None:
    with writing(tmp_path / "a") as log:
        with pytest.raises(AuditError, match="comment"):
            log.append("e", principal="", subject="", fields={"comment": "x" * MAX_RECORD_BYTES})
        log.append("e", principal="", subject="", fields={"comment": "x" * 60_000})
        log.append("e", principal="", subject="", fields={"comment": "x" * 60_000})
    assert verify(tmp_path / "a").count == 2
    with writing(tmp_path / "a") as log:
        assert log.chain.count == 2


def test_a_closed_log_refuses_to_write(path: Path) -> None:
    log = opened(path)
    log.close()
    log.close()
    with pytest.raises(AuditError, match="closed"):
        log.append("late", principal="", subject="")


def test_a_log_that_cannot_be_opened_or_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="Is a directory"):
        opened(tmp_path)
    with pytest.raises(AuditError, match="No such file"):
        verify(tmp_path / "none")


@pytest.mark.parametrize("told_before_the_kill", [1, 57])
def test_kill_9_loses_no_record_that_was_acknowledged(
    tmp_path: Path, told_before_the_kill: int
) -> None:
    path = tmp_path / "audit.jsonl"
    command = [sys.executable, "-c", ENDLESS, str(path)]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for _ in range(told_before_the_kill):
            process.stdout.readline()
        process.kill()
        told = [int(line) for line in process.stdout.read().split() if line]
    last = max([told_before_the_kill, *told])
    with writing(path) as log:
        assert log.chain.count >= last
    assert [record.sequence for record in records(path)][:last] == list(range(1, last + 1))
    verify(path)
