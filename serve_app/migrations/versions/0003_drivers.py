"""What another driver needs to take a job over, and what a reader needs to find its place again."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE serve_app.job ADD COLUMN seen_at timestamptz;   -- when somebody last read along beside the driver's own reader
ALTER TABLE serve_app.job ADD COLUMN served text;           -- JSON: what each node served, where more than the last one did
ALTER TABLE serve_app.job_text ADD COLUMN terms text;       -- JSON: price, caller's wishes
ALTER TABLE serve_app.job_text ADD COLUMN marks text;       -- JSON: how the result was told, event by event
"""


def upgrade() -> None:
    """Add the columns."""
    op.get_bind().exec_driver_sql(COLUMNS)


def downgrade() -> None:
    """Drop them."""
    op.get_bind().exec_driver_sql(
        "ALTER TABLE serve_app.job DROP COLUMN seen_at, DROP COLUMN served; ALTER TABLE serve_app.job_text DROP COLUMN terms, DROP COLUMN marks"
    )
