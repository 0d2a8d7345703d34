"""Guards of the books.

A login of its own for money that enters or leaves: whoever gets hold of the request path cannot make credits of nothing. And the accounts
that an audit found wrong, known to every process and after every restart.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

DOOR = """
CREATE INDEX account_of_the_world ON ledger.account (id) WHERE starts_with(address, 'world:');   -- on what never changes: updates stay HOT
CREATE OR REPLACE FUNCTION ledger.check_zero_sum() RETURNS trigger LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
BEGIN   -- per statement, not deferred: a deferred trigger would fire at COMMIT with the caller's rights
  IF EXISTS (SELECT FROM (SELECT e.txn_id, e.amount, (SELECT a.unit FROM account a WHERE a.id = e.account_id) AS unit FROM new_entries e) s
              GROUP BY s.txn_id, s.unit HAVING sum(s.amount) <> 0)          -- the unit by a look-up per entry, never by a join over all accounts
  THEN RAISE EXCEPTION 'unbalanced transaction' USING ERRCODE = 'P0499'; END IF;
  -- session_user is who logged in, also inside a function that runs with its owner's rights; the world's few accounts are read once
  IF EXISTS (SELECT FROM new_entries e WHERE e.account_id = ANY (ARRAY(SELECT a.id FROM account a WHERE starts_with(a.address, 'world:'))))
     AND NOT pg_has_role(session_user, 'gfe_pay', 'MEMBER')
  THEN RAISE EXCEPTION 'only gfe_pay moves credits in from the world or out to it' USING ERRCODE = 'insufficient_privilege'; END IF;
  RETURN NULL;
END $$;

-- Opens accounts that are not there yet, and answers all ids in the order asked. Idempotent; an existing account keeps its floor.
CREATE OR REPLACE FUNCTION ledger.open_accounts(addresses text[], units smallint[], floors bigint[], shared boolean[])
RETURNS TABLE (address text, id bigint) LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
#variable_conflict use_column
BEGIN
  IF NOT pg_has_role(session_user, 'gfe_pay', 'MEMBER') AND EXISTS (SELECT FROM unnest(addresses, units, floors, shared) AS u(a, u, f, s) WHERE
       (u.f IS NULL OR u.f < 0) AND u.a !~ '^(world:.*|platform:promotions|platform:goodwill)$' AND (u.u = 1 OR u.a !~ '^issuer:')
       OR starts_with(u.a, 'world:') AND NOT u.s) THEN   -- another bottomless account would be a source of credits
    RAISE EXCEPTION 'only the world and issuers may go below zero' USING ERRCODE = 'insufficient_privilege';
  END IF;
  INSERT INTO account (id, address, unit, floor)
    SELECT CASE WHEN u.s THEN nextval('account_shared') ELSE nextval('account_own') END, u.a, u.u, u.f
      FROM unnest(addresses, units, floors, shared) AS u(a, u, f, s)
     WHERE NOT EXISTS (SELECT 1 FROM account x WHERE x.address = u.a)
     ORDER BY u.a
    ON CONFLICT (address) DO NOTHING;
  RETURN QUERY SELECT x.address, x.id FROM unnest(addresses) WITH ORDINALITY AS u(a, n) JOIN account x ON x.address = u.a ORDER BY u.n;
END $$;
"""

REVIEWS = """
CREATE TABLE ledger.under_review (
  audit text NOT NULL, address text NOT NULL, since timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (audit, address));
"""

GRANTS = """
GRANT SELECT, INSERT, DELETE ON ledger.under_review TO gfe_ledger;
GRANT USAGE ON SCHEMA ledger TO gfe_pay;
GRANT EXECUTE ON FUNCTION ledger.apply, ledger.open_accounts TO gfe_pay;
GRANT SELECT ON ledger.account, ledger.hold, ledger.txn, ledger.entry TO gfe_pay;
GRANT SELECT, UPDATE (gateway_id, status, reason, ended_at) ON ledger.payment TO gfe_pay;
GRANT SELECT, UPDATE (worked_at, outcome) ON ledger.payment_event TO gfe_pay;
GRANT SELECT, INSERT ON ledger.approval TO gfe_pay;
GRANT INSERT ON ledger.audit_log TO gfe_pay;
"""


def upgrade() -> None:
    """Close the door for everybody but the login for payments; keep reviews."""
    for part in (DOOR, REVIEWS, GRANTS):
        op.get_bind().exec_driver_sql(part)


def downgrade() -> None:
    """Money is never migrated backwards: restore a backup instead."""
    raise NotImplementedError
