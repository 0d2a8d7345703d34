"""Verifying providers: samples to be audited, verdicts, alarms about counts, what followed for a node, appeals."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NODES = """
ALTER TABLE ledger.node DROP CONSTRAINT node_state, ADD COLUMN state_reason text,
  ADD COLUMN audit_percent smallint NOT NULL DEFAULT 100 CHECK (audit_percent BETWEEN 0 AND 100);
ALTER TABLE ledger.node ADD CONSTRAINT node_state CHECK (state IN ('active', 'paused', 'quarantined', 'revoked', 'deregistered', 'banned')),
  ADD CONSTRAINT node_tier CHECK (tier IN ('probation', 'verified', 'established'));
CREATE TABLE ledger.node_work (             -- how many jobs a node was paid for; some may be missing after a crash, never too many
  node_id text PRIMARY KEY REFERENCES ledger.node (id), jobs bigint NOT NULL CHECK (jobs >= 0));
"""

ESCROWS = """
CREATE INDEX account_of_providers ON ledger.account (address COLLATE "C") WHERE starts_with(address, 'provider:');   -- on what never changes: updates stay HOT
"""

AUDITS = """
CREATE UNLOGGED TABLE ledger.audit_sample ( -- ended jobs that wait for their audit; unlogged, so that no archive of WAL keeps what is promised to go
  job_id uuid PRIMARY KEY, node_id text NOT NULL REFERENCES ledger.node (id), model text NOT NULL, model_digest text NOT NULL,
  weights_sha256 text NOT NULL, rule_inputs jsonb NOT NULL, sealed text NOT NULL,              -- prompt and answer, for the auditor's key alone
  wanted_at timestamptz NOT NULL DEFAULT clock_timestamp(), leased_until timestamptz);
ALTER TABLE ledger.audit_sample ALTER COLUMN sealed SET STORAGE EXTERNAL;                      -- what is sealed cannot be compressed
CREATE INDEX audit_sample_age ON ledger.audit_sample (wanted_at);
CREATE INDEX audit_sample_of_node ON ledger.audit_sample (node_id);
CREATE TABLE ledger.audit_verdict (         -- for ever, without a word of the text
  job_id uuid PRIMARY KEY, node_id text NOT NULL REFERENCES ledger.node (id), at timestamptz NOT NULL DEFAULT clock_timestamp(),
  is_flagged boolean NOT NULL, rule text NOT NULL CHECK (rule IN ('A', 'B', 'count', 'none')), score double precision NOT NULL, windows int NOT NULL,
  tokens int NOT NULL, detail text NOT NULL, model text NOT NULL, model_digest text NOT NULL, weights_sha256 text NOT NULL);
CREATE INDEX audit_verdict_of_node ON ledger.audit_verdict (node_id, at);
CREATE TABLE ledger.count_alarm (           -- a node's own counts of a job were off; `jobs`: how many it had been paid for by then; no counts: an audit found it
  job_id uuid PRIMARY KEY, node_id text NOT NULL REFERENCES ledger.node (id), at timestamptz NOT NULL DEFAULT clock_timestamp(),
  claimed int, counted int, jobs bigint NOT NULL);
CREATE INDEX count_alarm_of_node ON ledger.count_alarm (node_id, at);
CREATE TABLE ledger.node_step (             -- what followed for a node, and why: its owner reads it
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, node_id text NOT NULL REFERENCES ledger.node (id),
  at timestamptz NOT NULL DEFAULT clock_timestamp(), step text NOT NULL, reason text NOT NULL, job_id uuid);
CREATE INDEX node_step_of_node ON ledger.node_step (node_id, seq);
CREATE TABLE ledger.appeal (                -- a provider objects; an operator decides
  id uuid PRIMARY KEY, node_id text NOT NULL REFERENCES ledger.node (id), person_id uuid NOT NULL REFERENCES ledger.person (id), note text NOT NULL,
  state text NOT NULL DEFAULT 'OPEN' CHECK (state IN ('OPEN', 'UPHELD', 'REFUSED')), answer text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(), decided_at timestamptz);
CREATE UNIQUE INDEX appeal_open ON ledger.appeal (node_id) WHERE state = 'OPEN';
CREATE INDEX appeal_of_node ON ledger.appeal (node_id, created_at);
"""

APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.audit_verdict FOR EACH STATEMENT EXECUTE FUNCTION ledger.append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.count_alarm FOR EACH STATEMENT EXECUTE FUNCTION ledger.append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.node_step FOR EACH STATEMENT EXECUTE FUNCTION ledger.append_only();
"""

GRANTS = """
GRANT UPDATE (state_reason, audit_percent) ON ledger.node TO gfe_ledger;
GRANT SELECT, INSERT, UPDATE (jobs) ON ledger.node_work TO gfe_ledger;
GRANT SELECT, INSERT, DELETE, UPDATE (leased_until) ON ledger.audit_sample TO gfe_ledger;
GRANT SELECT, INSERT ON ledger.audit_verdict, ledger.count_alarm, ledger.node_step TO gfe_ledger;
GRANT SELECT, INSERT, UPDATE (state, answer, decided_at) ON ledger.appeal TO gfe_ledger;
"""


def upgrade() -> None:
    """Create the tables and grant what the service needs."""
    for part in (NODES, ESCROWS, AUDITS, APPEND_ONLY, GRANTS):
        op.get_bind().exec_driver_sql(part)


def downgrade() -> None:
    """The ledger is never migrated backwards: restore a backup instead."""
    raise NotImplementedError
