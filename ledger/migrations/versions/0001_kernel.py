"""The ledger's kernel: accounts, holds, transactions, entries, and the one door to them."""

from importlib.resources import files

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what `kernel.sql` says."""
    op.get_bind().exec_driver_sql(files("ledger.migrations").joinpath("kernel.sql").read_text())


def downgrade() -> None:
    """Money is never migrated backwards: restore a backup instead."""
    raise NotImplementedError
