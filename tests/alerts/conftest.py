"""A log in either kind of database, and a shell into it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Engine, create_engine

from mad.alerts.log import AlertLog


@dataclass(frozen=True)
class Shell:
    """A person with a database shell."""

    engine: Engine

    def __call__(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement, and return what it found."""
        with self.engine.begin() as connection:
            result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else []

    def unguard(self, table: str) -> None:
        """Let rows of a table be edited."""
        on = f" ON {table}" if self.engine.dialect.name == "postgresql" else ""
        self(f"DROP TRIGGER {table}_no_update{on}")


@pytest.fixture
def log(log_url: str) -> Iterator[AlertLog]:
    opened = AlertLog.open(log_url)
    yield opened
    opened.close()


@pytest.fixture
def shell(log_url: str) -> Iterator[Shell]:
    engine = create_engine(log_url.replace("postgresql:", "postgresql+psycopg:"))
    yield Shell(engine)
    engine.dispose()
