"""How a log of any older format becomes one of the present: Alembic's scripts, one a format."""
