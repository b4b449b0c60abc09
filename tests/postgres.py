"""A real PostgreSQL server of our own, from the machine's packages."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import create_engine, text

_PLACES: Final = "/usr/lib/postgresql"
_USER: Final = "postgres"


def _owner() -> pwd.struct_passwd:
    """Return a user other than root."""
    try:
        return pwd.getpwnam(_USER)
    except KeyError:
        return pwd.getpwnam("nobody")


_OWNER: Final = _owner()
# PostgreSQL refuses to run as root. Python would have to fork to change the user, and the child
# then runs gRPC's handlers of forks: beside a server under load, one in some hundred hangs or dies.
_AS_OWNER: Final = (
    ("setpriv", f"--reuid={_OWNER.pw_uid}", f"--regid={_OWNER.pw_gid}", "--clear-groups", "--")
    if os.geteuid() == 0
    else ()
)


def binaries() -> Path | None:
    """Return the directory of the newest server's programs; None if there is no server."""
    found = sorted(Path(_PLACES).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return Path(elsewhere).parent if elsewhere else None


@dataclass
class Postgres:
    """A server that listens on a socket in a directory of its own."""

    programs: Path
    directory: Path
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def create(cls, programs: Path) -> "Postgres":
        """Make an empty cluster; it does not run yet."""
        # Its user must reach it, and a socket's path is short.
        directory = Path(tempfile.mkdtemp(prefix="mad-pg-"))
        if os.geteuid() == 0:
            shutil.chown(directory, _OWNER.pw_uid)
        server = cls(programs, directory)
        server._run("initdb", "--no-sync", "-A", "trust", "-U", _USER, "-D", directory / "data")
        return server

    def start(self) -> None:
        """Run, and wait until it answers."""
        # What a crash of the machine would lose is not what these tests are about.
        options = f"-c listen_addresses= -c fsync=off -k {self.directory}"
        log = self.directory / "log"
        self._run("pg_ctl", "-w", "-D", self.directory / "data", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """End at once, whoever is connected."""
        self._run("pg_ctl", "-w", "-m", "immediate", "-D", self.directory / "data", "stop")

    def remove(self) -> None:
        """Delete the cluster."""
        shutil.rmtree(self.directory)

    def fresh_url(self) -> str:
        """Return a URL under which there is nothing yet."""
        schema = f"fresh_{next(self._numbers)}"
        engine = create_engine(f"postgresql+psycopg://{self._where}")
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        engine.dispose()
        return f"postgresql://{self._where}&options=-csearch_path%3D{schema}"

    @property
    def _where(self) -> str:
        return f"{_USER}@/postgres?host={self.directory}"

    def _run(self, program: str, *arguments: str | Path) -> None:
        # What it starts must not hold a pipe of ours, which would never end.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                [*_AS_OWNER, self.programs / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=self.directory,
                check=False,
                timeout=100,
            )
            said.seek(0)
            assert done.returncode == 0, (
                f"{program} ended with {done.returncode}: {said.read().decode()}{self._logged()}"
            )

    def _logged(self) -> str:
        """Return the end of what the server logged, which is what explains most failures."""
        log = self.directory / "log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""
