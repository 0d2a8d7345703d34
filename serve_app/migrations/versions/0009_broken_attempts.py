"""Attempts that broke on a node, also those that another one took over: a job's end is told of the node that it ended on alone."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the count."""
    op.get_bind().exec_driver_sql("ALTER TABLE serve_app.node_day ADD COLUMN broken bigint NOT NULL DEFAULT 0")


def downgrade() -> None:
    """Drop it."""
    op.get_bind().exec_driver_sql("ALTER TABLE serve_app.node_day DROP COLUMN broken")
