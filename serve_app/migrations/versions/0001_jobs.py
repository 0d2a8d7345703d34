"""Jobs: one small row per job, its texts beside it."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JOBS = """
CREATE TABLE serve_app.job (
  id uuid PRIMARY KEY,                    -- = the hold's id in the ledger
  user_id text NOT NULL, username text NOT NULL, key_id text NOT NULL,
  kind text NOT NULL, model text NOT NULL,
  state smallint NOT NULL DEFAULT 0,      -- 0 queued, 1 running, 2 succeeded, 3 failed, 4 canceled
  is_incomplete boolean NOT NULL DEFAULT false,
  is_sync boolean NOT NULL,               -- somebody reads along; else it runs on by itself
  driver text, lease_until timestamptz,   -- who drives it, and until when nobody else may
  attempt smallint NOT NULL DEFAULT 1, node text,
  held bigint NOT NULL, cost bigint,      -- micro-credits; cost is null while open
  prompt_tokens int, completion_tokens int, counted_by text,
  owed text,                              -- what the ledger still has to be told: capture, void, void_retryable; null: settled
  settled_at timestamptz,
  error text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(), started_at timestamptz, ended_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX job_of_user ON serve_app.job (user_id, id DESC);
CREATE INDEX job_open ON serve_app.job (lease_until) WHERE state < 2;
CREATE INDEX job_owed ON serve_app.job (ended_at) WHERE owed IS NOT NULL;
CREATE TABLE serve_app.job_text (
  job_id uuid PRIMARY KEY REFERENCES serve_app.job (id) ON DELETE CASCADE,
  request text NOT NULL, result text
);
GRANT USAGE ON SCHEMA serve_app TO gfe_serve;
GRANT SELECT, INSERT, UPDATE ON serve_app.job, serve_app.job_text TO gfe_serve;
"""


def upgrade() -> None:
    """Create the tables."""
    op.get_bind().exec_driver_sql(JOBS)


def downgrade() -> None:
    """Drop the tables."""
    op.get_bind().exec_driver_sql("DROP TABLE serve_app.job_text, serve_app.job")
