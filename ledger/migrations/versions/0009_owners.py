"""What owners of nodes are told by mail, from where their nodes enrolled, and suspicions about speed."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MAIL = """
CREATE TABLE ledger.owed_mail (             -- written with the change that it tells of; gone when it was handed over
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, person_id uuid NOT NULL REFERENCES ledger.person (id), subject text NOT NULL, body text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(), tries smallint NOT NULL DEFAULT 0, due_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX owed_mail_due ON ledger.owed_mail (due_at);
"""

NETWORKS = """
ALTER TABLE ledger.node ADD COLUMN network cidr;                                 -- that it enrolled from; null: this machine, or before this was kept
CREATE INDEX node_on_probation ON ledger.node (network) WHERE tier = 'probation';
"""

SPEED = """
ALTER TABLE ledger.count_alarm DROP CONSTRAINT count_alarm_pkey,                 -- of the kind `timing`: tokens a second, seen and at most possible
  ADD COLUMN kind text NOT NULL DEFAULT 'count' CHECK (kind IN ('count', 'timing')), ADD PRIMARY KEY (job_id, kind);
"""

GRANTS = """
GRANT SELECT, INSERT, DELETE, UPDATE (tries, due_at) ON ledger.owed_mail TO gfe_ledger;
"""


def upgrade() -> None:
    """Create the table and the columns, and grant what the service needs."""
    for part in (MAIL, NETWORKS, SPEED, GRANTS):
        op.get_bind().exec_driver_sql(part)


def downgrade() -> None:
    """The ledger is never migrated backwards: restore a backup instead."""
    raise NotImplementedError
