"""What Alembic runs: the scripts that are missing, inside the transaction it is given."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], version_table="mad_alert_log_revision"
)
context.run_migrations()
