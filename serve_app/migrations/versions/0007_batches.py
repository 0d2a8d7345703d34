"""Files of consumers, line by line, and batches of jobs that read one and write two."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BATCHES = """
CREATE TABLE serve_app.file (
  id uuid PRIMARY KEY, user_id text NOT NULL, filename text NOT NULL,
  purpose text NOT NULL,                  -- batch: uploaded; batch_output: written by a batch
  bytes bigint NOT NULL,                  -- while it is not ready: as many as it may become
  is_ready boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL, expires_at timestamptz NOT NULL
);
CREATE INDEX file_of_user ON serve_app.file (user_id, id DESC);
CREATE INDEX file_by_end ON serve_app.file (expires_at);
CREATE TABLE serve_app.file_line (
  file_id uuid NOT NULL REFERENCES serve_app.file (id) ON DELETE CASCADE,
  number int NOT NULL,                    -- from 1; a batch writes under the number of the line that it answers, so there are gaps
  content bytea NOT NULL,                 -- with its line end
  PRIMARY KEY (file_id, number)
);
CREATE TABLE serve_app.batch (
  id uuid PRIMARY KEY, user_id text NOT NULL, endpoint text NOT NULL, completion_window text NOT NULL, metadata text,
  input_file uuid NOT NULL, output_file uuid NOT NULL, error_file uuid NOT NULL,
  state text NOT NULL DEFAULT 'validating',
  times jsonb NOT NULL DEFAULT '{}',      -- state -> seconds since 1970 when it began
  errors text,                            -- JSON: what is wrong with the batch or with lines that could not be read
  total int NOT NULL DEFAULT 0, completed int NOT NULL DEFAULT 0, failed int NOT NULL DEFAULT 0,
  credential bytea,                       -- sealed with the installation's key; dropped when the batch ends
  runner text, lease_until timestamptz,   -- who runs it, and until when nobody else may
  request_key text, request_digest text,  -- of an Idempotency-Key
  created_at timestamptz NOT NULL, expires_at timestamptz NOT NULL, ended_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX batch_of_user ON serve_app.batch (user_id, id DESC);
CREATE INDEX batch_open ON serve_app.batch (created_at) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX batch_of_request ON serve_app.batch (user_id, request_key) WHERE request_key IS NOT NULL;
CREATE TABLE serve_app.batch_line (
  batch_id uuid NOT NULL REFERENCES serve_app.batch (id) ON DELETE CASCADE,
  number int NOT NULL, custom_id text,
  state smallint NOT NULL DEFAULT 0,      -- 0 waits, 1 runs, 2 answered, 3 failed
  job_id uuid,
  PRIMARY KEY (batch_id, number)
) WITH (fillfactor = 80);
GRANT SELECT, INSERT, UPDATE, DELETE ON serve_app.file, serve_app.file_line, serve_app.batch, serve_app.batch_line TO gfe_serve;
"""


def upgrade() -> None:
    """Create the tables."""
    op.get_bind().exec_driver_sql(BATCHES)


def downgrade() -> None:
    """Drop the tables."""
    op.get_bind().exec_driver_sql("DROP TABLE serve_app.batch_line, serve_app.batch, serve_app.file_line, serve_app.file")
