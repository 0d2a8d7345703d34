"""A number for each change of a job, so that whoever looks on reads what is new, once, in order.

The number comes from one sequence, by the column's default: a statement that changes what people see of a job says `change = DEFAULT`. The
default asks for the transaction's id *before* it draws, which is what lets a reader tell that no lower number can still appear
(`serve_app/live/changes.py`).

The index is a plain one on the number alone. It does not cost HOT updates, for those updates are not HOT anyway: each of them changes a
column of `job_open` or `job_owed` (state, lease, what is owed); only the rare raise of an attempt was. Numbers grow, so every entry goes to
the same right-most page; an index that begins with the user would touch a page per user. A reader takes the few newest numbers of everybody
and sieves them by user. BRIN would not help: numbers lie where the rows lie, which is anywhere. Measured: docs/decisions/0013-changes-are-read-in-order.md.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

CHANGES = """
CREATE SEQUENCE serve_app.change;
SELECT setval('serve_app.change', 1);                           -- so that its last value has always been drawn
ALTER TABLE serve_app.job ADD COLUMN change bigint;             -- null: it has not changed since there are numbers
ALTER TABLE serve_app.job ALTER COLUMN change SET DEFAULT CASE WHEN pg_current_xact_id() IS NOT NULL THEN nextval('serve_app.change') END;
CREATE INDEX job_change ON serve_app.job (change) WHERE change IS NOT NULL;
GRANT USAGE, SELECT ON SEQUENCE serve_app.change TO gfe_serve;
"""


def upgrade() -> None:
    """Add the numbers."""
    op.get_bind().exec_driver_sql(CHANGES)


def downgrade() -> None:
    """Drop them."""
    op.get_bind().exec_driver_sql("ALTER TABLE serve_app.job DROP COLUMN change; DROP SEQUENCE serve_app.change")
