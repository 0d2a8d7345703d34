"""Alembic's entry for the schema `ledger`: runs on the connection that `gfe db upgrade` hands over, as the schema's owner."""

from alembic import context

SCHEMA = "ledger"

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table_schema=SCHEMA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
