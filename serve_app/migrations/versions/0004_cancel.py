"""Jobs that are to be canceled; lists of jobs by time; and what is counted of jobs that ended, so that nobody counts rows."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CHANGES = """
ALTER TABLE serve_app.job ADD COLUMN cancel_at timestamptz;  -- when its consumer wanted it to end; its driver sees to it
CREATE INDEX job_unwanted ON serve_app.job (driver) WHERE cancel_at IS NOT NULL AND state < 2;
ALTER TABLE serve_app.job ADD COLUMN prompt text;            -- its first characters, for lists
-- An id that follows from an Idempotency-Key tells no time: lists go by time, then by id.
DROP INDEX serve_app.job_of_user;
CREATE INDEX job_of_user ON serve_app.job (user_id, created_at DESC, id DESC);
-- Shards: replicas that end jobs of the same model at once do not wait for each other.
CREATE TABLE serve_app.tally (
  model text NOT NULL, shard smallint NOT NULL, ended bigint NOT NULL, completed bigint NOT NULL, completed_at timestamptz,
  PRIMARY KEY (model, shard)
) WITH (fillfactor = 70);
CREATE TABLE serve_app.node_day (
  node text NOT NULL, day date NOT NULL, model text NOT NULL, shard smallint NOT NULL,
  served bigint NOT NULL,  -- jobs that are to be paid for, whole or in part
  completed bigint NOT NULL, failed bigint NOT NULL, canceled bigint NOT NULL, completion_tokens bigint NOT NULL,
  PRIMARY KEY (node, day, model, shard)
) WITH (fillfactor = 70);
GRANT SELECT, INSERT, UPDATE ON serve_app.tally, serve_app.node_day TO gfe_serve;
"""
# What was before is counted once, as shard 0. A request is JSON; where PostgreSQL might not read it (NUL, halves of pairs) there is no prompt.
COUNTED = """
INSERT INTO serve_app.tally SELECT model, 0, count(*), count(*) FILTER (WHERE state = 2), max(ended_at) FILTER (WHERE state = 2)
  FROM serve_app.job WHERE state >= 2 GROUP BY model;
INSERT INTO serve_app.node_day
SELECT node, (ended_at AT TIME ZONE 'UTC')::date, model, 0, count(*) FILTER (WHERE cost > 0), count(*) FILTER (WHERE state = 2),
       count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 4), coalesce(sum(completion_tokens), 0)
  FROM serve_app.job WHERE state >= 2 AND node IS NOT NULL AND ended_at IS NOT NULL GROUP BY 1, 2, 3;
UPDATE serve_app.job j SET prompt = left(coalesce(t.request::json -> 'messages' -> -1 ->> 'content', t.request::json ->> 'prompt'), 80)
  FROM serve_app.job_text t WHERE t.job_id = j.id AND strpos(t.request, '\\u0000') = 0 AND strpos(t.request, '\\ud') = 0;
"""


def upgrade() -> None:
    """Add the columns, tables and indexes, and count what was before."""
    op.get_bind().exec_driver_sql(CHANGES)
    op.get_bind().exec_driver_sql(COUNTED)


def downgrade() -> None:
    """Drop them."""
    op.get_bind().exec_driver_sql(
        "DROP TABLE serve_app.tally, serve_app.node_day; DROP INDEX serve_app.job_of_user; DROP INDEX serve_app.job_unwanted;"
        "CREATE INDEX job_of_user ON serve_app.job (user_id, id DESC);"
        "ALTER TABLE serve_app.job DROP COLUMN cancel_at, DROP COLUMN prompt"
    )
