"""Webhooks: endpoints, accounts' own secrets, and the outbox of what is to be told to whom."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE serve_app.job ADD COLUMN webhook text;             -- the URL that is told of this job's end, beside the account's endpoints
CREATE TABLE serve_app.webhook (
  id uuid PRIMARY KEY,
  user_id text NOT NULL, key_id text,                          -- null: jobs of every key of the account
  url text NOT NULL, events text[] NOT NULL, has_result boolean NOT NULL, description text NOT NULL,
  version int NOT NULL DEFAULT 1, rotated_at timestamptz,      -- of its secret, which is not kept (serve_app/webhooks/signing.py)
  failing_since timestamptz, disabled_at timestamptz, disabled_why text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX webhook_of_user ON serve_app.webhook (user_id, url, coalesce(key_id, ''));
CREATE TABLE serve_app.webhook_account (
  user_id text PRIMARY KEY, endpoints int NOT NULL DEFAULT 0,
  version int NOT NULL DEFAULT 1, rotated_at timestamptz
);
CREATE TABLE serve_app.webhook_event (
  seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
  id uuid PRIMARY KEY DEFAULT                                  -- a UUIDv7
    (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid,
  user_id text NOT NULL,
  webhook_id uuid,                                             -- null: the job's own URL. No foreign key: an endpoint that goes must hinder no job's end
  job_id uuid,                                                 -- null: a test
  type text NOT NULL, url text NOT NULL,
  lane text NOT NULL GENERATED ALWAYS AS (split_part(url, '/', 3)) STORED,  -- host and port: what is slow there waits there
  state smallint NOT NULL DEFAULT 0,                           -- 0 pending, 1 delivered, 2 given up
  attempts int NOT NULL DEFAULT 0,
  next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  claim uuid, lease_until timestamptz,                         -- who sends it now, and until when nobody else does
  status int, error text, tried_at timestamptz,                -- of the last attempt
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),     -- the 24 hours of its tries count from here; later than its making when it was sent again
  ended_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX webhook_event_due ON serve_app.webhook_event (lane, next_at) WHERE state = 0;
CREATE INDEX webhook_event_order ON serve_app.webhook_event (job_id, seq) WHERE state = 0;
CREATE INDEX webhook_event_of_user ON serve_app.webhook_event (user_id, seq);
CREATE INDEX webhook_event_of_webhook ON serve_app.webhook_event (webhook_id, seq);
CREATE INDEX webhook_event_age ON serve_app.webhook_event (begun_at);
GRANT SELECT, INSERT, UPDATE, DELETE ON serve_app.webhook, serve_app.webhook_account, serve_app.webhook_event TO gfe_serve;
"""


def upgrade() -> None:
    """Create the tables."""
    op.get_bind().exec_driver_sql(TABLES)


def downgrade() -> None:
    """Drop them."""
    op.get_bind().exec_driver_sql(
        "DROP TABLE serve_app.webhook_event, serve_app.webhook_account, serve_app.webhook; ALTER TABLE serve_app.job DROP COLUMN webhook"
    )
