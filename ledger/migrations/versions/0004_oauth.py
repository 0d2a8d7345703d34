"""What a sign-in through another service remembers besides: who links an account, and who still owes the second factor."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OAUTH = """
ALTER TABLE ledger.oauth_state ADD COLUMN person_id uuid REFERENCES ledger.person (id), ADD COLUMN is_proven boolean NOT NULL DEFAULT false,
  ADD CONSTRAINT proven CHECK (NOT is_proven OR person_id IS NOT NULL);
CREATE INDEX oauth_state_expiry ON ledger.oauth_state (expires_at);
"""


def upgrade() -> None:
    """Add the columns."""
    op.get_bind().exec_driver_sql(OAUTH)


def downgrade() -> None:
    """Nobody's way in is migrated backwards: restore a backup instead."""
    raise NotImplementedError
