"""Where sign-ins began, so that their owner knows them in a list."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE ledger.session ADD COLUMN address text,                              -- as limits count it; null: before this was kept
  ADD COLUMN program text;                                                       -- what the program that signed in called itself
DROP INDEX ledger.session_of_person;
CREATE INDEX session_of_person ON ledger.session (person_id, created_at DESC, id DESC);
"""


def upgrade() -> None:
    """Add the columns, and let pages of a person's sign-ins be read in order."""
    op.get_bind().exec_driver_sql(COLUMNS)


def downgrade() -> None:
    """The ledger is never migrated backwards: restore a backup instead."""
    raise NotImplementedError
