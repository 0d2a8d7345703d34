"""Who people are, their keys, their nodes; prices; generations of idempotency keys."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

IDENTITY = """
CREATE TABLE ledger.person (
  id uuid PRIMARY KEY, username text NOT NULL, role text NOT NULL DEFAULT 'USER',
  created_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE UNIQUE INDEX person_username ON ledger.person (lower(username));
CREATE TABLE ledger.api_key (
  id text PRIMARY KEY,                      -- the 8 public characters
  person_id uuid NOT NULL REFERENCES ledger.person (id),
  mac bytea NOT NULL, pepper_version smallint NOT NULL DEFAULT 1,   -- HMAC-SHA256(pepper, whole key)
  name text NOT NULL, scopes text[] NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(), revoked_at timestamptz, last_used_at timestamptz);
CREATE INDEX api_key_of_person ON ledger.api_key (person_id);
CREATE TABLE ledger.node (
  id text PRIMARY KEY, person_id uuid NOT NULL REFERENCES ledger.person (id),
  name text NOT NULL, kind text NOT NULL, state text NOT NULL DEFAULT 'active',
  created_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE ledger.price (                 -- immutable: a change is a new version
  version int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, model text,                            -- null: every model without a price of its own
  flat bigint NOT NULL CHECK (flat >= 0), prompt_per_million bigint NOT NULL CHECK (prompt_per_million >= 0),
  completion_per_million bigint NOT NULL CHECK (completion_per_million >= 0),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE ledger.idempotency (           -- a key's generation: raised when a try failed by our fault before its first token
  person_id uuid NOT NULL, key text NOT NULL, generation int NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (person_id, key));
GRANT SELECT, INSERT ON ledger.person, ledger.node, ledger.price TO gfe_ledger;
GRANT SELECT, INSERT, UPDATE (name, revoked_at, last_used_at) ON ledger.api_key TO gfe_ledger;
GRANT SELECT, INSERT, UPDATE (generation) ON ledger.idempotency TO gfe_ledger;
"""


def upgrade() -> None:
    """Create the tables."""
    op.get_bind().exec_driver_sql(IDENTITY)


def downgrade() -> None:
    """Money is never migrated backwards: restore a backup instead."""
    raise NotImplementedError
