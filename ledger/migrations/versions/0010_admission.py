"""Admission of models on edge nodes: canaries before the first paid job, and what became of them."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE ledger.admission (             -- a model of a node with these weights: may consumers' jobs go there?
  node_id text NOT NULL REFERENCES ledger.node (id), model text NOT NULL, digest text NOT NULL,
  state text NOT NULL CHECK (state IN ('testing', 'admitted', 'refused')), said text NOT NULL,                 -- in a sentence, for the owner
  base int NOT NULL CHECK (base > 0),       -- canaries that must pass; as many again after a flag
  passed int NOT NULL DEFAULT 0, unjudged int NOT NULL DEFAULT 0, short int NOT NULL DEFAULT 0, failed int NOT NULL DEFAULT 0, flagged int NOT NULL DEFAULT 0,
  why text NOT NULL DEFAULT '',             -- the last failure, or why an answer could not be judged
  first_token_s double precision, tokens_per_s double precision,                                               -- medians of what was answered
  again_at timestamptz,                     -- refused, and tested again from then on; NULL: for good
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(), round_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (node_id, model, digest));
CREATE TABLE ledger.canary (                -- a test job; nobody pays for it
  job_id uuid PRIMARY KEY, node_id text NOT NULL, model text NOT NULL, digest text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('plain', 'beside', 'long')), at timestamptz NOT NULL DEFAULT clock_timestamp(), leased_until timestamptz NOT NULL,
  state text NOT NULL DEFAULT 'sent' CHECK (state IN ('sent', 'answered', 'passed', 'unjudged', 'short', 'failed', 'flagged')),
  prompt_tokens int, completion_tokens int, first_token_s double precision, tokens_per_s double precision, detail text NOT NULL DEFAULT '',
  FOREIGN KEY (node_id, model, digest) REFERENCES ledger.admission ON DELETE CASCADE);
CREATE INDEX canary_of_model ON ledger.canary (node_id, model, digest, at);
ALTER TABLE ledger.audit_sample ADD COLUMN is_admission boolean NOT NULL DEFAULT false;
ALTER TABLE ledger.audit_verdict ADD COLUMN is_admission boolean NOT NULL DEFAULT false;                       -- of a canary before admission: no strike
"""

# What passed so many audits before there were canaries needs none.
KNOWN = """
INSERT INTO ledger.admission (node_id, model, digest, state, said, base, passed)
SELECT node_id, model, weights_sha256, 'admitted', 'Admitted: its audits speak for it.', 20, count(*) FROM ledger.audit_verdict
WHERE rule IN ('A', 'B') GROUP BY node_id, model, weights_sha256 HAVING count(*) >= 20 AND NOT bool_or(is_flagged);
"""

GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.admission, ledger.canary TO gfe_ledger;
"""


def upgrade() -> None:
    """Create the tables and grant what the service needs."""
    for part in (TABLES, KNOWN, GRANTS):
        op.get_bind().exec_driver_sql(part)


def downgrade() -> None:
    """The ledger is never migrated backwards: restore a backup instead."""
    raise NotImplementedError
