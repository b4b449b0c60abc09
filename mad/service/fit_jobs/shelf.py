"""The jobs of one server on disk: a directory each, swept when the server starts.

DIRECTORY/lock                           held by the one server that runs the fits of this directory
DIRECTORY/.<job id>/                     a stream that has not committed: removed at the next start
DIRECTORY/<job id>/job.json              how it stands; written aside, then renamed
DIRECTORY/<job id>/inputs/*.safetensors  trusted inputs, until the job has ended
DIRECTORY/<job id>/unfinished/, looking/ checkpoints of its fit, until the job has ended
DIRECTORY/<job id>/quarantined/          inputs that were set aside, and their rows
"""

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

from mad.errors import ConfigError
from mad.service.fit_jobs.job import FitJob, read, written
from mad.tensors import read_bytes, write_durably

log = logging.getLogger(__name__)

INPUTS: Final = "inputs"
UNFINISHED: Final = "unfinished"
LOOKING: Final = "looking"
QUARANTINED: Final = "quarantined"
_JOB: Final = "job.json"
_LOCK: Final = "lock"
_OURS: Final = re.compile(r"[0-9a-f]{32}")


@final
class Shelf:
    """The directory, held by this process until ``close``."""

    def __init__(self, directory: Path, lock: int) -> None:
        self._directory = directory
        self._lock = lock

    @classmethod
    def open(cls, directory: Path) -> "Shelf":
        """Take hold of the directory, made if it is new, and sweep it.

        Raises:
            ConfigError: it cannot be written, or another server holds it.
        """
        with _writing(directory):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise ConfigError(
                f"another server runs the fits of {directory}; ask that one, or set fit.directory "
                "to a directory of this server's own"
            ) from error
        shelf = cls(directory, lock)
        shelf._sweep()
        return shelf

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._lock)

    def directory_of(self, job_id: str) -> Path:
        """Return where a job of ours keeps what it has; never asked with a caller's text."""
        return self._directory / job_id

    def jobs(self) -> list[FitJob]:
        """Read every job, oldest first; one that is damaged is left alone, and logged."""
        found = []
        for home in self._directory.iterdir():
            if _OURS.fullmatch(home.name):
                try:
                    found.append(read(read_bytes(home / _JOB), name=str(home / _JOB)))
                except ConfigError as error:
                    log.error("fit job ignored: %s", error)  # noqa: TRY400  # the operator's disk
        return sorted(found, key=lambda job: (job.created, job.job_id))

    def begin(self, job_id: str) -> Path:
        """Make room for a stream's inputs, out of sight until ``keep``."""
        aside = self._directory / f".{job_id}"
        with _writing(self._directory):
            (aside / INPUTS).mkdir(parents=True)
        return aside

    def drop(self, job_id: str) -> None:
        """Forget a stream that did not become a job."""
        shutil.rmtree(self._directory / f".{job_id}", ignore_errors=True)

    def keep(self, job: FitJob) -> None:
        """Make a stream's inputs a job, durable when this returns; ConfigError if it cannot be."""
        aside = self._directory / f".{job.job_id}"
        with _writing(self._directory):
            write_durably(aside / _JOB, written(job))
            _flush(aside / INPUTS)
            _flush(aside)
            aside.rename(self._directory / job.job_id)
            _flush(self._directory)

    def save(self, job: FitJob) -> None:
        """Write how a job stands, durable when this returns; ConfigError if it cannot be."""
        home = self._directory / job.job_id
        with _writing(home):
            aside = home / f".{_JOB}"
            write_durably(aside, written(job))
            aside.replace(home / _JOB)
            _flush(home)

    def clear(self, job_id: str) -> None:
        """Remove the trusted inputs of a job that has ended; what was set aside stays."""
        for name in (INPUTS, UNFINISHED, LOOKING):
            shutil.rmtree(self._directory / job_id / name, ignore_errors=True)

    def remove(self, job_id: str) -> None:
        """Remove all that is left of a job."""
        shutil.rmtree(self._directory / job_id, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove streams that never committed, and what a removal that was killed has left.

        Nothing else is touched, should the settings name a directory that holds other things.
        """
        for path in self._directory.iterdir():
            is_open = _OURS.fullmatch(path.name.removeprefix(".")) and path.name.startswith(".")
            if is_open or (_OURS.fullmatch(path.name) and not (path / _JOB).is_file()):
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        raise ConfigError(
            f"cannot write the fits of {directory}: {cause.strerror}; make room, or set "
            "fit.directory to a directory that can be written"
        ) from cause


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
