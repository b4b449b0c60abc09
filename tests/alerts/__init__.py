"""The alert log, in SQLite and in PostgreSQL."""
