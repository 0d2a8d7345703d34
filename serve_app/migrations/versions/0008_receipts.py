"""What a job's receipt is made of, beside its texts: whose weights answered, and what the node vouched for."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

RECEIPTS = """
ALTER TABLE serve_app.job_text ADD COLUMN weights text,   -- digest of the model that answered
  ADD COLUMN receipt text;                                -- JSON of an edge node's receipt
"""


def upgrade() -> None:
    """Add the columns."""
    op.get_bind().exec_driver_sql(RECEIPTS)


def downgrade() -> None:
    """Drop them."""
    op.get_bind().exec_driver_sql("ALTER TABLE serve_app.job_text DROP COLUMN weights, DROP COLUMN receipt")
