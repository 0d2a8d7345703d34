-- The ledger's kernel. Three verbs, always in batches:
--   hold     reserve money on one or several accounts
--   post     move money (legs that sum to zero), optionally resolving the hold of the same id
--   release  a post without legs that resolves a hold
-- A deposit, capture, refund, withdrawal or transfer is a post with other legs, built by the caller. ledger.apply is the only door.
-- Digests (of everything that matters in an operation) come from the caller, who packs the batch: ledger/money/posting.py.

CREATE TABLE ledger.account (
  id      bigint PRIMARY KEY,                        -- accounts that everybody touches get the highest ids: locked last, held shortest
  address text NOT NULL UNIQUE,                      -- consumer:<user>:paid, platform:fees, world:stripe, budget:<key>:2026-11 ...
  unit    smallint NOT NULL DEFAULT 1,               -- 1 credits (micro), 2 allowance of a key (micro), 3 open jobs
  posted  bigint NOT NULL DEFAULT 0,
  held    bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
  floor   bigint DEFAULT 0,                          -- NULL: may go below zero (world, issuers of allowances)
  seq     bigint NOT NULL DEFAULT 0,                 -- number of entries so far
  CONSTRAINT funds CHECK (posted - held >= floor)
) WITH (fillfactor = 50);                            -- no index on a column that changes: every update stays in its page (HOT)
CREATE SEQUENCE ledger.account_own;
CREATE SEQUENCE ledger.account_shared START 4611686018427387904;   -- 2^62

CREATE TABLE ledger.hold (                           -- a row exists exactly while something is reserved
  id uuid PRIMARY KEY,                               -- = the job's id = the id of the transaction that will resolve it
  accounts bigint[] NOT NULL, amounts bigint[] NOT NULL CHECK (cardinality(accounts) = cardinality(amounts)),
  digest bigint NOT NULL, meta jsonb NOT NULL,       -- meta: price, limits, model, who asked
  at timestamptz NOT NULL, expires_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);   -- one dead row per job
CREATE INDEX hold_expiry ON ledger.hold (expires_at);
-- No foreign keys to account: the check of a hot row costs ten times the insert. The functions test existence themselves.

CREATE TABLE ledger.txn (                            -- append-only
  id uuid PRIMARY KEY, kind smallint NOT NULL, at timestamptz NOT NULL,
  hold_digest bigint, held_at timestamptz,           -- of the hold it resolved: a late copy of the hold can still be told from another one
  reverses uuid UNIQUE,                              -- a refund, at most once
  digest bigint NOT NULL, meta jsonb);
CREATE TABLE ledger.entry (                          -- append-only; primary key = statement, history and gap detector
  account_id bigint NOT NULL, seq bigint NOT NULL, txn_id uuid NOT NULL,
  amount bigint NOT NULL CHECK (amount <> 0), balance bigint NOT NULL,
  PRIMARY KEY (account_id, seq));

CREATE FUNCTION ledger.check_zero_sum() RETURNS trigger LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
BEGIN   -- per statement, not deferred: a deferred trigger would fire at COMMIT with the caller's rights
  IF EXISTS (SELECT 1 FROM new_entries e JOIN account a ON a.id = e.account_id GROUP BY e.txn_id, a.unit HAVING sum(e.amount) <> 0)
  THEN RAISE EXCEPTION 'unbalanced transaction' USING ERRCODE = 'P0499'; END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER zero_sum AFTER INSERT ON ledger.entry REFERENCING NEW TABLE AS new_entries
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.check_zero_sum();
CREATE FUNCTION ledger.append_only() RETURNS trigger LANGUAGE plpgsql SET search_path = ledger, pg_temp AS
  $$ BEGIN RAISE EXCEPTION 'append-only'; END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.entry FOR EACH STATEMENT EXECUTE FUNCTION ledger.append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.txn FOR EACH STATEMENT EXECUTE FUNCTION ledger.append_only();

-- Opens accounts that are not there yet, and answers all ids in the order asked. Idempotent; an existing account keeps its floor.
CREATE FUNCTION ledger.open_accounts(addresses text[], units smallint[], floors bigint[], shared boolean[])
RETURNS TABLE (address text, id bigint) LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
#variable_conflict use_column
BEGIN
  INSERT INTO account (id, address, unit, floor)
    SELECT CASE WHEN u.s THEN nextval('account_shared') ELSE nextval('account_own') END, u.a, u.u, u.f
      FROM unnest(addresses, units, floors, shared) AS u(a, u, f, s)
     WHERE NOT EXISTS (SELECT 1 FROM account x WHERE x.address = u.a)
     ORDER BY u.a
    ON CONFLICT (address) DO NOTHING;
  RETURN QUERY SELECT x.address, x.id FROM unnest(addresses) WITH ORDINALITY AS u(a, n) JOIN account x ON x.address = u.a ORDER BY u.n;
END $$;

-- Posts: everything wrong is found before anything is written, so that one bad operation never costs the batch more than itself.
CREATE FUNCTION ledger._post(now_at timestamptz, locked bigint[],
  t_id uuid[], t_kind smallint[], t_hold boolean[], t_meta text[], t_reverses uuid[], t_digest bigint[], l_txn int[], l_account bigint[], l_amount bigint[])
RETURNS TABLE (id uuid, status text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH
  l AS MATERIALIZED (SELECT u.n, u.account_id, u.amount, u.k, a.unit
        FROM unnest(l_txn, l_account, l_amount) WITH ORDINALITY AS u(n, account_id, amount, k) LEFT JOIN ledger.account a ON a.id = u.account_id),
  legs_of AS MATERIALIZED (SELECT n, bool_or(unit IS NULL) AS unknown, bool_or(amount IS NULL OR amount = 0 OR abs(amount) > 1000000000000000) AS bad
                FROM l GROUP BY n),
  uneven AS MATERIALIZED (SELECT DISTINCT n FROM l GROUP BY n, unit HAVING sum(amount) <> 0),
  t AS MATERIALIZED (SELECT u.*, o.unknown, o.bad, o.n IS NULL AS empty, v.n IS NOT NULL AS uneven,
             row_number() OVER (PARTITION BY u.id ORDER BY u.n) > 1 AS twice
        FROM unnest(t_id, t_kind, t_hold, t_meta, t_reverses, t_digest) WITH ORDINALITY AS u(id, kind, hold, meta, reverses, digest, n)
        LEFT JOIN legs_of o USING (n) LEFT JOIN uneven v USING (n)),
  j AS MATERIALIZED (
    SELECT t.*, h.accounts, h.amounts, h.at AS held_at, h.digest AS hold_digest,
      CASE WHEN t.twice THEN 'again'
           WHEN x.id IS NOT NULL THEN CASE WHEN x.digest = t.digest THEN 'exists' ELSE 'conflict' END
           WHEN t.bad OR (t.empty AND NOT t.hold) THEN 'invalid'
           WHEN t.unknown THEN 'no_account'
           WHEN t.uneven THEN 'unbalanced'
           WHEN t.hold AND h.id IS NULL THEN 'no_hold'
           WHEN NOT t.hold AND h.id IS NOT NULL THEN 'conflict'          -- the id belongs to an open hold
           WHEN t.hold AND NOT h.accounts <@ locked THEN 'again'         -- placed after we took our locks
           WHEN t.hold AND EXISTS (SELECT 1 FROM l WHERE l.n = t.n AND l.amount < 0 GROUP BY l.account_id
                  HAVING -sum(l.amount) > coalesce((SELECT sum(w.m) FROM unnest(h.accounts, h.amounts) w(a, m) WHERE w.a = l.account_id), 0)) THEN 'over_hold'
           WHEN t.reverses IS NOT NULL AND r.id IS NULL THEN 'no_txn' END AS refused
      FROM t LEFT JOIN ledger.hold h ON h.id = t.id LEFT JOIN ledger.txn x ON x.id = t.id LEFT JOIN ledger.txn r ON r.id = t.reverses),
  tx AS (INSERT INTO ledger.txn (id, kind, at, hold_digest, held_at, reverses, digest, meta)
         SELECT id, kind, now_at, CASE WHEN hold THEN hold_digest END, CASE WHEN hold THEN held_at END, reverses, digest, meta::jsonb FROM j WHERE refused IS NULL ORDER BY n
         ON CONFLICT DO NOTHING RETURNING id),
  done AS MATERIALIZED (SELECT j.* FROM j JOIN tx USING (id) WHERE j.refused IS NULL),
  gone AS (DELETE FROM ledger.hold h USING done d WHERE d.hold AND h.id = d.id),
  legs AS MATERIALIZED (SELECT l.account_id, l.amount, d.id AS txn_id, l.k FROM done d JOIN l USING (n)),
  delta AS (SELECT account_id, sum(p)::bigint AS p, sum(h)::bigint AS h, sum(c)::bigint AS c FROM (
              SELECT account_id, amount AS p, 0 AS h, 1 AS c FROM legs
              UNION ALL SELECT w.a, 0, -w.m, 0 FROM done d, unnest(d.accounts, d.amounts) w(a, m) WHERE d.hold) s GROUP BY account_id),
  upd AS (UPDATE ledger.account a SET posted = a.posted + d.p, held = a.held + d.h, seq = a.seq + d.c FROM delta d WHERE a.id = d.account_id
          RETURNING a.id, a.posted - d.p AS before, a.seq - d.c AS seq0),
  e AS (INSERT INTO ledger.entry (account_id, seq, txn_id, amount, balance)
        SELECT l.account_id, u.seq0 + row_number() OVER p, l.txn_id, l.amount, u.before + sum(l.amount) OVER p
          FROM legs l JOIN upd u ON u.id = l.account_id
        WINDOW p AS (PARTITION BY l.account_id ORDER BY l.amount DESC, l.k))                  -- credits first: no dip in between
  SELECT j.id, coalesce(j.refused, CASE WHEN tx.id IS NOT NULL THEN 'ok' ELSE 'conflict' END)   -- conflict here: reversed before, or lost a race for the id
    FROM j LEFT JOIN tx ON tx.id = j.id AND j.refused IS NULL;
END $$;

-- Holds: admitted in order against what each locked account can still give; one poor account never slows the others.
-- A line with an amount must fit whole; a line with amount 0 is a pocket: pockets are emptied in their order until the hold's amount is
-- reached. Lines of one hold stand together, in the order of the holds. Everything is decided on flat arrays and written in two statements.
CREATE FUNCTION ledger._hold(now_at timestamptz, h_id uuid[], h_amount bigint[], h_ttl_s int[], h_meta text[], h_digest bigint[],
  hl_hold int[], hl_account bigint[], hl_amount bigint[])
RETURNS TABLE (id uuid, status text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  n int; k int := 1; first int; last int := coalesce(cardinality(hl_hold), 0); i int; need bigint; take bigint; fits boolean;
  acc bigint[]; room bigint[]; idx int[]; prior int[]; takes bigint[]; outcome text[]; any_ok boolean := false; lost uuid[];
BEGIN
  SELECT array_agg(a.id ORDER BY a.id), array_agg(CASE WHEN a.floor IS NULL THEN 4000000000000000000 ELSE a.posted - a.held - a.floor END ORDER BY a.id)
    INTO acc, room FROM ledger.account a WHERE a.id = ANY (hl_account);
  SELECT array_agg(coalesce(x.i, 0) ORDER BY l.k) INTO idx
    FROM unnest(hl_account) WITH ORDINALITY AS l(a, k) LEFT JOIN unnest(acc) WITH ORDINALITY AS x(a, i) ON x.a = l.a;
  SELECT array_agg(CASE WHEN u.twice THEN 3                                                  -- 0 new, 1 exists, 2 conflict, 3 again
                        WHEN x.id IS NOT NULL THEN CASE WHEN x.hold_digest IS NOT DISTINCT FROM u.digest THEN 1 ELSE 2 END
                        WHEN h.id IS NOT NULL THEN CASE WHEN h.digest = u.digest THEN 1 ELSE 2 END ELSE 0 END ORDER BY u.n) INTO prior
    FROM (SELECT v.id, v.digest, v.n, row_number() OVER (PARTITION BY v.id ORDER BY v.n) > 1 AS twice
            FROM unnest(h_id, h_digest) WITH ORDINALITY AS v(id, digest, n)) u
    LEFT JOIN ledger.hold h ON h.id = u.id LEFT JOIN ledger.txn x ON x.id = u.id;
  takes := array_fill(0::bigint, ARRAY[greatest(last, 1)]);
  outcome := array_fill('invalid'::text, ARRAY[cardinality(h_id)]);
  FOR n IN 1 .. cardinality(h_id) LOOP
    first := k;
    WHILE k <= last AND hl_hold[k] = n LOOP k := k + 1; END LOOP;                            -- lines first .. k - 1 are this hold's
    IF prior[n] > 0 THEN outcome[n] := CASE prior[n] WHEN 1 THEN 'exists' WHEN 2 THEN 'conflict' ELSE 'again' END; CONTINUE; END IF;
    IF first = k OR h_amount[n] IS NULL OR h_amount[n] <= 0 OR h_amount[n] > 1000000000000000 OR h_ttl_s[n] IS NULL OR h_ttl_s[n] NOT BETWEEN 1 AND 604800 THEN CONTINUE; END IF;
    need := h_amount[n]; fits := true; outcome[n] := 'ok';
    FOR i IN first .. k - 1 LOOP
      IF hl_amount[i] < 0 OR hl_amount[i] > 1000000000000000 THEN fits := false; outcome[n] := 'invalid'; EXIT; END IF;
      IF idx[i] = 0 THEN fits := false; outcome[n] := 'no_account'; EXIT; END IF;
    END LOOP;
    IF NOT fits THEN CONTINUE; END IF;
    FOR i IN first .. k - 1 LOOP
      IF hl_amount[i] = 0 THEN take := least(need, greatest(room[idx[i]], 0)); need := need - take;
      ELSE take := hl_amount[i]; IF take > room[idx[i]] THEN fits := false; outcome[n] := 'limit'; EXIT; END IF;
      END IF;
      takes[i] := take; room[idx[i]] := room[idx[i]] - take;
    END LOOP;
    IF fits AND need > 0 THEN fits := false; outcome[n] := 'funds'; END IF;
    IF fits THEN any_ok := true;
    ELSE                                                                                      -- give back what this hold had taken
      FOR i IN first .. k - 1 LOOP room[idx[i]] := room[idx[i]] + takes[i]; takes[i] := 0; END LOOP;
    END IF;
  END LOOP;
  IF any_ok THEN
    WITH lines AS (SELECT u.n, array_agg(u.a ORDER BY u.k) AS accounts, array_agg(u.t ORDER BY u.k) AS amounts
                     FROM unnest(hl_hold, hl_account, takes) WITH ORDINALITY AS u(n, a, t, k) GROUP BY u.n),
    wanted AS MATERIALIZED (SELECT u.id, u.n, l.accounts, l.amounts, u.digest, u.meta, u.ttl_s
                FROM unnest(h_id, h_digest, h_meta, h_ttl_s, outcome) WITH ORDINALITY AS u(id, digest, meta, ttl_s, o, n) JOIN lines l USING (n) WHERE u.o = 'ok'),
    placed AS (INSERT INTO ledger.hold (id, accounts, amounts, digest, meta, at, expires_at)
               SELECT w.id, w.accounts, w.amounts, w.digest, coalesce(w.meta::jsonb, '{}'), now_at, now_at + make_interval(secs => w.ttl_s) FROM wanted w
               ON CONFLICT DO NOTHING RETURNING id, accounts, amounts),
    upd AS (UPDATE ledger.account a SET held = a.held + t.t
              FROM (SELECT w.a, sum(w.m)::bigint AS t FROM placed p, unnest(p.accounts, p.amounts) w(a, m) GROUP BY w.a) t WHERE a.id = t.a AND t.t > 0)
    SELECT array_agg(w.id) INTO lost FROM wanted w LEFT JOIN placed p ON p.id = w.id WHERE p.id IS NULL;   -- arrived in another batch at this moment
  END IF;
  RETURN QUERY SELECT u.id, CASE WHEN u.o = 'ok' AND u.id = ANY (lost) THEN 'again' ELSE u.o END FROM unnest(h_id, outcome) AS u(id, o);
END $$;

-- The door. Statuses: ok | exists | conflict | again | invalid | no_account | unbalanced | no_hold | over_hold | no_txn | funds | limit
-- Answers come in no particular order: by id; a repeated id answers once per appearance.
CREATE FUNCTION ledger.apply(
  h_id uuid[], h_amount bigint[], h_ttl_s int[], h_meta text[], h_digest bigint[], hl_hold int[], hl_account bigint[], hl_amount bigint[],
  t_id uuid[], t_kind smallint[], t_hold boolean[], t_meta text[], t_reverses uuid[], t_digest bigint[], l_txn int[], l_account bigint[], l_amount bigint[])
RETURNS TABLE (id uuid, status text) LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = ledger, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off   -- plans by key, whatever the statistics say
AS $$
#variable_conflict use_column
DECLARE i int; la bigint[]; lm bigint[]; locked bigint[]; now_at timestamptz;
BEGIN
  -- Every account this batch can touch, locked once, first, in id order, outside any savepoint: no deadlock by construction.
  SELECT coalesce(array_agg(s.id), '{}') INTO locked FROM (
    SELECT a.id FROM ledger.account a
     WHERE a.id IN (SELECT unnest(l_account) UNION SELECT unnest(hl_account) UNION SELECT unnest(h.accounts) FROM ledger.hold h WHERE h.id = ANY (t_id))
     ORDER BY a.id FOR NO KEY UPDATE) s;
  now_at := clock_timestamp();                       -- after the locks: order of time = order of entries, per account
  IF cardinality(t_id) > 0 THEN
    BEGIN
      RETURN QUERY SELECT * FROM ledger._post(now_at, locked, t_id, t_kind, t_hold, t_meta, t_reverses, t_digest, l_txn, l_account, l_amount);
    EXCEPTION WHEN check_violation THEN              -- somebody lacks funds: one by one, each in its own savepoint (captures never get here)
      FOR i IN 1 .. cardinality(t_id) LOOP
        BEGIN
          SELECT coalesce(array_agg(u.a), '{}'), coalesce(array_agg(u.m), '{}') INTO la, lm FROM unnest(l_txn, l_account, l_amount) u(n, a, m) WHERE u.n = i;
          RETURN QUERY SELECT * FROM ledger._post(now_at, locked, t_id[i:i], t_kind[i:i], t_hold[i:i], t_meta[i:i], t_reverses[i:i], t_digest[i:i],
                                                  array_fill(1, ARRAY[cardinality(la)]), la, lm);
        EXCEPTION WHEN check_violation THEN id := t_id[i]; status := 'funds'; RETURN NEXT;
        END;
      END LOOP;
    END;
  END IF;
  IF cardinality(h_id) > 0 THEN
    RETURN QUERY SELECT * FROM ledger._hold(now_at, h_id, h_amount, h_ttl_s, h_meta, h_digest, hl_hold, hl_account, hl_amount);
  END IF;
END $$;

-- Rights: functions are executable by everybody unless revoked; tables are read-only for the service.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
GRANT USAGE ON SCHEMA ledger TO gfe_ledger;
GRANT EXECUTE ON FUNCTION ledger.apply, ledger.open_accounts TO gfe_ledger;
GRANT SELECT ON ledger.account, ledger.hold, ledger.txn, ledger.entry TO gfe_ledger;
