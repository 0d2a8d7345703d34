"""Earnings by node too. The summary is made of the books, so it is thrown away and summed up again when somebody looks."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BY_NODE = """
DELETE FROM ledger.earnings_mark;
DELETE FROM ledger.earnings_day;
ALTER TABLE ledger.earnings_day DROP CONSTRAINT earnings_day_pkey, ADD COLUMN node text NOT NULL, ADD PRIMARY KEY (person_id, day, model, node);
"""


def upgrade() -> None:
    """Add the node to the summary."""
    op.get_bind().exec_driver_sql(BY_NODE)


def downgrade() -> None:
    """The ledger is never migrated backwards: restore a backup instead."""
    raise NotImplementedError
