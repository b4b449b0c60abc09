"""Who did what, in a file that cannot be edited unseen: each record holds the digest of the last.

A record is one line of JSON. Whoever keeps the digest of some record elsewhere can prove later that
everything up to it still stands as it was written; without that, only a forger who rewrites every
record after the one he changes goes unseen.
"""

import fcntl
import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self, final

from mad.errors import AuditError

GENESIS: Final = "0" * 64
"""What the first record holds in place of a digest."""
MAX_RECORD_BYTES: Final = 64 * 1024
_TORN: Final = "audit.torn"


@final
@dataclass(frozen=True, slots=True)
class Record:
    """One line; ``sequence`` counts from 1, ``previous`` is the digest of the line before."""

    sequence: int
    time: datetime
    event: str
    principal: str
    subject: str
    fields: Mapping[str, object]
    previous: str


@final
@dataclass(frozen=True, slots=True)
class Chain:
    """A whole log: its length, the digest of its last record, bytes of a record under way."""

    count: int
    head: str
    torn_bytes: int


@final
class AuditLog:
    """The one writer of a file; safe to call from any thread, each call waits for the disk."""

    def __init__(self, path: Path, file: int, clock: Callable[[], datetime]) -> None:
        self._path = path
        self._file = file
        self._clock = clock
        self._writing = threading.Lock()
        self._chain = Chain(0, GENESIS, 0)
        self._end = 0
        self._is_clean = True
        self._is_open = True

    @classmethod
    def open(cls, path: Path, *, clock: Callable[[], datetime]) -> Self:
        """Open a log, made if it is missing, for this process alone.

        What a crash left of a record that nobody was told of is moved to a file beside the log, and
        a record says so. Raises AuditError when the file cannot be written, has another writer, or
        does not end in a record.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise AuditError(f"cannot open audit log {path}: {error.strerror}") from error
        log = cls(path, file, clock)
        try:
            log._take_over()
        except BaseException:
            log.close()
            raise
        return log

    @property
    def chain(self) -> Chain:
        """What is durable now."""
        return self._chain

    def append(
        self,
        event: str,
        *,
        principal: str,
        subject: str,
        fields: Mapping[str, object] | None = None,
    ) -> Record:
        """Write one record, durable when this returns.

        ``fields`` are further facts, by name; None stands for none. Raises AuditError when the disk
        refuses; the log is then as it was before.
        """
        with self._writing:
            if not self._is_open:
                raise AuditError(f"audit log {self._path} is closed; the server is stopping")
            record = Record(
                sequence=self._chain.count + 1,
                time=self._clock().astimezone(UTC),
                event=event,
                principal=principal,
                subject=subject,
                fields=fields or {},
                previous=self._chain.head,
            )
            self._write(_line(record))
            return record

    def close(self) -> None:
        """Let another writer have the file; closing twice is no error."""
        with self._writing:
            if self._is_open:
                self._is_open = False
                os.close(self._file)

    def _take_over(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AuditError(
                f"audit log {self._path} has another writer; give each server its own "
                "security.audit_log"
            ) from error
        last, self._end, torn = _last_line(self._path, self._file)
        if last:
            record = _parsed(last, f"the last record of {self._path}")
            self._chain = Chain(record.sequence, _digest(last), 0)
        if torn:
            self._move_aside(torn)
        _sync_directory(self._path.parent)

    def _move_aside(self, torn: bytes) -> None:
        digest = _digest(torn)
        aside = self._path.with_name(f"{self._path.name}.torn-{digest[:16]}")
        try:
            aside.write_bytes(torn)
        except OSError as error:
            raise AuditError(f"cannot write {aside}: {error.strerror}") from error
        self._is_clean = False
        facts = {"bytes": len(torn), "sha256": digest}
        self.append(_TORN, principal="", subject=aside.name, fields=facts)

    def _write(self, line: bytes) -> None:
        try:
            if not self._is_clean:
                os.ftruncate(self._file, self._end)
            self._is_clean = False
            written = 0
            while written < len(line):
                written += os.pwrite(self._file, line[written:], self._end + written)
            os.fsync(self._file)
        except OSError as error:
            raise AuditError(
                f"cannot write audit log {self._path}: {error.strerror}; nothing was recorded"
            ) from error
        self._is_clean = True
        self._end += len(line)
        self._chain = Chain(self._chain.count + 1, _digest(line), 0)


def verify(path: Path, *, known: str = "") -> Chain:
    """Read a whole log and check that every record follows the one before.

    ``known`` is the digest of a record, noted earlier, that must be in it; empty means none is.
    Raises AuditError naming the first record that is broken, or that ``known`` is not there.
    """
    count, head, torn = 0, GENESIS, 0
    is_found = known in ("", GENESIS)
    for line, record in _lines(path):
        if record is None:
            torn = len(line)
            break
        count += 1
        if (record.sequence, record.previous) != (count, head):
            raise AuditError(
                f"record {count} of {path} does not follow the one before it; one of them was "
                "edited, removed or put in later"
            )
        head = _digest(line)
        is_found = is_found or head == known
    if not is_found:
        raise AuditError(
            f"no record of {path} has the digest {known}; that record or one before it was "
            "edited, or records at the end were removed"
        )
    return Chain(count, head, torn)


def records(path: Path) -> Iterator[Record]:
    """Yield the records of a log, oldest first; raises AuditError at one that cannot be read."""
    for _, record in _lines(path):
        if record is not None:
            yield record


def _lines(path: Path) -> Iterator[tuple[bytes, Record | None]]:
    """Yield each line and its record; a last line that does not end has none."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_RECORD_BYTES + 1):
                number += 1
                if line.endswith(b"\n"):
                    yield line, _parsed(line, f"record {number} of {path}")
                elif len(line) <= MAX_RECORD_BYTES:
                    yield line, None
                else:
                    raise AuditError(f"record {number} of {path} is longer than any of ours")
    except OSError as error:
        raise AuditError(f"cannot read audit log {path}: {error.strerror}") from error


def _last_line(path: Path, file: int) -> tuple[bytes, int, bytes]:
    """Return the last whole line, where it ends, and what follows it; reads the end only."""
    size = os.fstat(file).st_size
    begin = max(0, size - 2 * MAX_RECORD_BYTES)
    tail = os.pread(file, size - begin, begin)
    end = tail.rfind(b"\n") + 1
    start = tail.rfind(b"\n", 0, max(end - 1, 0)) + 1
    torn = tail[end:]
    if (begin and not start) or len(torn) > MAX_RECORD_BYTES:
        raise AuditError(f"{path} ends in no record; it is no audit log, or was edited")
    return tail[start:end], begin + end, torn


def _line(record: Record) -> bytes:
    content = {
        "sequence": record.sequence,
        "time": record.time.isoformat(),
        "event": record.event,
        "principal": record.principal,
        "subject": record.subject,
        "fields": plain(record.fields),
        "previous": record.previous,
    }
    line = json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    if len(line) > MAX_RECORD_BYTES:
        raise AuditError(
            f"a record of {len(line)} bytes is longer than {MAX_RECORD_BYTES}; say less in "
            f"{sorted(record.fields)}"
        )
    return line


def plain(value: object) -> object:
    """Return what JSON can hold; a number that is not finite becomes its name."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case _:
            return str(value)


def _parsed(line: bytes, what: str) -> Record:
    try:
        content = json.loads(line)
        record = Record(**content | {"time": datetime.fromisoformat(content["time"])})
        texts = (record.event, record.principal, record.subject, record.previous)
        if type(record.sequence) is int and all(isinstance(text, str) for text in texts):
            return record
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise AuditError(f"{what} cannot be read; it was edited or damaged") from error
    raise AuditError(f"{what} is none of ours; it was edited or damaged")


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _sync_directory(directory: Path) -> None:
    """Make the file's name as durable as what is in it."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
