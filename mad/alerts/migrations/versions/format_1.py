"""Format 1: alerts, each request's only once, guarded against edits in SQLite."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, String, Text, text

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "mad_alert_log_format",
        Column("format", Integer, primary_key=True, autoincrement=False),
    )
    op.create_table(
        "mad_alerts",
        Column(
            "sequence",
            BigInteger().with_variant(Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        Column("alert_id", String, nullable=False, unique=True),
        Column("time", String, nullable=False),
        Column("model", String, nullable=False),
        Column("baseline", String, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("request_id", String, nullable=False),
        Column("input_index", BigInteger, nullable=False),
        Column("input_digest", String, nullable=False),
        Column("body", Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "mad_alerts_retry",
        "mad_alerts",
        ["request_id", "input_index", "input_digest", "baseline", "version"],
        unique=True,
        sqlite_where=text("request_id <> ''"),
        postgresql_where=text("request_id <> ''"),
    )
    op.create_index("mad_alerts_baseline", "mad_alerts", ["baseline", "sequence"])
    op.execute("INSERT INTO mad_alert_log_format (format) VALUES (1)")
    if op.get_context().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER mad_alerts_no_{change.lower()} BEFORE {change} ON mad_alerts "
                "BEGIN SELECT RAISE(ABORT, 'the alert log is append-only'); END"
            )
