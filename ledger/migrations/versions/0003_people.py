"""People who sign in: passwords, sessions, mail, limits; budgets of keys; agents; the feed; the audit log; payments; earnings."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PEOPLE = """
ALTER TABLE ledger.person ADD COLUMN name_key text, ADD COLUMN email text, ADD COLUMN email_verified_at timestamptz,
  ADD COLUMN password_hash text, ADD COLUMN password_changed_at timestamptz, ADD COLUMN is_operator boolean NOT NULL DEFAULT false,
  ADD COLUMN blocked_at timestamptz, ADD COLUMN totp_secret bytea, ADD COLUMN totp_confirmed_at timestamptz, ADD COLUMN totp_last_step bigint;
UPDATE ledger.person SET name_key = lower(username);
ALTER TABLE ledger.person ALTER COLUMN name_key SET NOT NULL;
DROP INDEX ledger.person_username;
CREATE UNIQUE INDEX person_name ON ledger.person (name_key);         -- NFKC, case folded
CREATE UNIQUE INDEX person_email ON ledger.person (lower(email)) WHERE email_verified_at IS NOT NULL;
CREATE TABLE ledger.sign_in (               -- an account with another service that its owner signs in with
  provider text NOT NULL, subject text NOT NULL, person_id uuid NOT NULL REFERENCES ledger.person (id), email text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (provider, subject));
CREATE INDEX sign_in_of_person ON ledger.sign_in (person_id);
CREATE TABLE ledger.session (               -- one sign-in: a family of refresh tokens
  id uuid PRIMARY KEY, person_id uuid NOT NULL REFERENCES ledger.person (id),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(), expires_at timestamptz NOT NULL, revoked_at timestamptz, fresh_at timestamptz);
CREATE INDEX session_of_person ON ledger.session (person_id);
CREATE INDEX session_expiry ON ledger.session (expires_at);
CREATE TABLE ledger.refresh_token (         -- spent ones stay as long as their session: a second use must be seen
  hash bytea PRIMARY KEY, session_id uuid NOT NULL REFERENCES ledger.session (id) ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(), expires_at timestamptz NOT NULL, spent_at timestamptz);
CREATE INDEX refresh_token_of_session ON ledger.refresh_token (session_id);
CREATE TABLE ledger.mail_code (             -- sent by mail: proves an address, or sets a new password
  hash bytea PRIMARY KEY, person_id uuid NOT NULL REFERENCES ledger.person (id), purpose text NOT NULL CHECK (purpose IN ('verify', 'reset')),
  email text NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp(), expires_at timestamptz NOT NULL, used_at timestamptz);
CREATE INDEX mail_code_of_person ON ledger.mail_code (person_id);
CREATE TABLE ledger.oauth_state (           -- a sign-in that is on its way through another service
  hash bytea PRIMARY KEY, provider text NOT NULL, verifier text NOT NULL, nonce text NOT NULL, return_to text NOT NULL, expires_at timestamptz NOT NULL);
"""

LIMITS = """
CREATE UNLOGGED TABLE ledger.throttle (     -- failures in a row; each doubles the wait. Forgotten by a crash, which is no harm
  subject text PRIMARY KEY, failures int NOT NULL, at timestamptz NOT NULL, blocked_until timestamptz NOT NULL);
CREATE UNLOGGED TABLE ledger.bucket (       -- token buckets
  subject text PRIMARY KEY, tokens double precision NOT NULL, at timestamptz NOT NULL, granted int NOT NULL) WITH (fillfactor = 50);
ALTER TABLE ledger.api_key ADD COLUMN budget_day bigint CHECK (budget_day >= 0), ADD COLUMN budget_month bigint CHECK (budget_month >= 0),
  ADD COLUMN budget_total bigint CHECK (budget_total >= 0), ADD COLUMN per_minute int CHECK (per_minute > 0), ADD COLUMN models text[],
  ADD COLUMN expires_at timestamptz, ADD COLUMN privacy text NOT NULL DEFAULT 'community' CHECK (privacy IN ('community', 'trusted'));
CREATE TABLE ledger.answered (              -- answers to requests with an Idempotency-Key, written with what they tell of
  person_id uuid NOT NULL, route text NOT NULL, key text NOT NULL, digest text NOT NULL, status smallint NOT NULL, body jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (person_id, route, key));
CREATE INDEX answered_age ON ledger.answered (created_at);
"""

AGENTS = """
ALTER TABLE ledger.node ADD COLUMN public_key text, ADD COLUMN agent_version text, ADD COLUMN platform text, ADD COLUMN tier text NOT NULL DEFAULT 'probation',
  ADD COLUMN last_seen_at timestamptz, ADD COLUMN changed_at timestamptz NOT NULL DEFAULT clock_timestamp();
ALTER TABLE ledger.node ADD CONSTRAINT node_state CHECK (state IN ('active', 'paused', 'revoked', 'deregistered', 'banned'));
CREATE UNIQUE INDEX node_public_key ON ledger.node (public_key);
CREATE INDEX node_of_person ON ledger.node (person_id);
CREATE TABLE ledger.enrollment (            -- one-time codes of agents; used ones stay, as the list of a person's agents
  id uuid PRIMARY KEY, person_id uuid NOT NULL REFERENCES ledger.person (id), mac bytea NOT NULL UNIQUE, prefix text NOT NULL, label text NOT NULL,
  node_id text REFERENCES ledger.node (id), created_at timestamptz NOT NULL DEFAULT clock_timestamp(), expires_at timestamptz NOT NULL,
  used_at timestamptz, last_used_at timestamptz, revoked_at timestamptz);
CREATE INDEX enrollment_of_person ON ledger.enrollment (person_id);
CREATE INDEX enrollment_of_node ON ledger.enrollment (node_id);
CREATE UNLOGGED TABLE ledger.agent_nonce (hash bytea PRIMARY KEY, node_id text NOT NULL, expires_at timestamptz NOT NULL);
CREATE TABLE ledger.feed (                  -- what other services must know soon: numbered under a lock, so that no reader skips a late commit
  seq bigint PRIMARY KEY, kind text NOT NULL, subject text NOT NULL, detail jsonb NOT NULL DEFAULT '{}', at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION ledger.tell(kind text, subject text, detail jsonb) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE n bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('ledger feed'));
  SELECT coalesce(max(f.seq), 0) + 1 INTO n FROM feed f;
  INSERT INTO feed (seq, kind, subject, detail) VALUES (n, tell.kind, tell.subject, tell.detail);
  RETURN n;
END $$;
"""

AUDIT_LOG = """
CREATE TABLE ledger.audit_log (             -- who did what; append-only, sealed in blocks
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), actor text NOT NULL, action text NOT NULL,
  target text NOT NULL, address text, request_id text, detail jsonb NOT NULL DEFAULT '{}');
CREATE INDEX audit_log_target ON ledger.audit_log (target, seq);
CREATE TABLE ledger.audit_seal (            -- hash of (the hash before, the block's rows): made after the fact, never in the path of a request
  last_seq bigint PRIMARY KEY, first_seq bigint NOT NULL, hash bytea NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.audit_log FOR EACH STATEMENT EXECUTE FUNCTION ledger.append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.audit_seal FOR EACH STATEMENT EXECUTE FUNCTION ledger.append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.price FOR EACH STATEMENT EXECUTE FUNCTION ledger.append_only();
"""

PAYMENTS = """
CREATE TABLE ledger.payment (               -- deposits and withdrawals: what was asked, and what became of it
  id uuid PRIMARY KEY, person_id uuid NOT NULL REFERENCES ledger.person (id), kind text NOT NULL CHECK (kind IN ('DEPOSIT', 'WITHDRAWAL')),
  amount bigint NOT NULL CHECK (amount > 0), currency text NOT NULL, gateway text NOT NULL, gateway_id text, checkout_url text, destination text,
  status text NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'SUCCESS', 'FAILED')), reason text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(), ended_at timestamptz);
CREATE INDEX payment_of_person ON ledger.payment (person_id, id);
CREATE INDEX payment_pending ON ledger.payment (created_at) WHERE status = 'PENDING';
CREATE UNIQUE INDEX payment_at_gateway ON ledger.payment (gateway, gateway_id);
CREATE TABLE ledger.payment_event (         -- the inbox: an event's id is unique for ever
  gateway text NOT NULL, id text NOT NULL, body jsonb NOT NULL, received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  worked_at timestamptz, outcome text, tries int NOT NULL DEFAULT 0, next_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (gateway, id));
CREATE INDEX payment_event_waiting ON ledger.payment_event (next_at) WHERE worked_at IS NULL;
CREATE TABLE ledger.approval (              -- operators who agree with a withdrawal or a correction; large ones need two
  subject uuid NOT NULL, person_id uuid NOT NULL REFERENCES ledger.person (id), at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (subject, person_id));
CREATE TABLE ledger.correction (            -- asked for by an operator; posted at once, or when a second one agrees
  id uuid PRIMARY KEY, person_id uuid NOT NULL REFERENCES ledger.person (id), pocket text NOT NULL CHECK (pocket IN ('promo', 'paid', 'earned')),
  amount bigint NOT NULL CHECK (amount <> 0), reason text NOT NULL, proposed_by uuid NOT NULL REFERENCES ledger.person (id),
  state text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'POSTED', 'REFUSED')), created_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE ledger.release_mark (account_id bigint PRIMARY KEY, seq bigint NOT NULL);     -- up to where earnings were released
CREATE TABLE ledger.earnings_mark (account_id bigint PRIMARY KEY, seq bigint NOT NULL);    -- up to where earnings were summed
CREATE TABLE ledger.earnings_day (
  person_id uuid NOT NULL, day date NOT NULL, model text NOT NULL, earned bigint NOT NULL, jobs bigint NOT NULL, PRIMARY KEY (person_id, day, model));
CREATE TABLE ledger.audit_mark (account_id bigint PRIMARY KEY, seq bigint NOT NULL, balance bigint NOT NULL);
"""

# The service may do what its handlers do and nothing else: no DELETE but of what has expired, no UPDATE of what must stay.
GRANTS = """
GRANT UPDATE (username, name_key, email, email_verified_at, password_hash, password_changed_at, is_operator, role, blocked_at, totp_secret,
  totp_confirmed_at, totp_last_step) ON ledger.person TO gfe_ledger;
GRANT SELECT, INSERT, DELETE ON ledger.sign_in TO gfe_ledger;
GRANT SELECT, INSERT, DELETE, UPDATE (revoked_at, fresh_at) ON ledger.session TO gfe_ledger;
GRANT SELECT, INSERT, DELETE, UPDATE (spent_at) ON ledger.refresh_token TO gfe_ledger;
GRANT SELECT, INSERT, DELETE, UPDATE (used_at) ON ledger.mail_code TO gfe_ledger;
GRANT SELECT, INSERT, DELETE ON ledger.oauth_state, ledger.agent_nonce TO gfe_ledger;
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.throttle, ledger.bucket TO gfe_ledger;
GRANT SELECT, INSERT, DELETE ON ledger.answered TO gfe_ledger;
GRANT UPDATE (name, state, public_key, agent_version, platform, tier, last_seen_at, changed_at) ON ledger.node TO gfe_ledger;
GRANT SELECT, INSERT, UPDATE (node_id, used_at, last_used_at, revoked_at) ON ledger.enrollment TO gfe_ledger;
GRANT SELECT, DELETE ON ledger.feed TO gfe_ledger;
GRANT EXECUTE ON FUNCTION ledger.tell(text, text, jsonb) TO gfe_ledger;
GRANT SELECT, INSERT ON ledger.audit_log, ledger.audit_seal TO gfe_ledger;
GRANT SELECT, INSERT, UPDATE (gateway_id, checkout_url, status, reason, ended_at) ON ledger.payment TO gfe_ledger;
GRANT SELECT, INSERT, UPDATE (worked_at, outcome, tries, next_at) ON ledger.payment_event TO gfe_ledger;
GRANT SELECT, INSERT ON ledger.approval TO gfe_ledger;
GRANT SELECT, INSERT, UPDATE (state) ON ledger.correction TO gfe_ledger;
GRANT SELECT, INSERT, UPDATE (seq) ON ledger.release_mark, ledger.earnings_mark TO gfe_ledger;
GRANT SELECT, INSERT, UPDATE (earned, jobs) ON ledger.earnings_day TO gfe_ledger;
GRANT SELECT, INSERT, UPDATE (seq, balance) ON ledger.audit_mark TO gfe_ledger;
GRANT UPDATE (budget_day, budget_month, budget_total, per_minute, models, expires_at, privacy) ON ledger.api_key TO gfe_ledger;
"""


def upgrade() -> None:
    """Create the tables and grant what the service needs."""
    for part in (PEOPLE, LIMITS, AGENTS, AUDIT_LOG, PAYMENTS, GRANTS):
        op.get_bind().exec_driver_sql(part)


def downgrade() -> None:
    """Money is never migrated backwards: restore a backup instead."""
    raise NotImplementedError
