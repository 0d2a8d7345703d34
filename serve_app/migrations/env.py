"""Alembic's entry for the schema `serve_app`: runs on the connection that `gfe db upgrade` hands over, as the schema's owner."""

from alembic import context

SCHEMA = "serve_app"

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table_schema=SCHEMA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
