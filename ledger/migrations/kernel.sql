-- The ledger's kernel. Three verbs, always in batches:
--   hold     reserve money on one or several accounts
--   post     move money (legs that sum to zero), optionally resolving the hold of the same id
--   release  a post without legs that resolves a hold
-- A deposit, capture, refund, withdrawal or transfer is a post with other legs, built by the caller. ledger.apply is the only door.
-- Digests (of everything that matters in an operation) come from the caller, who packs the batch: ledger/money/posting.py.

CREATE TABLE ledger.account (
  id      bigint PRIMARY KEY,                        -- accounts that everybody touches get the highest ids: locked last, held shortest
  address text NOT NULL UNIQUE,                      -- consumer:<user>:paid, platform:fees, world:stripe, budget:<key>:2026-11 ...
  unit    smallint NOT NULL DEFAULT 1 CHECK (unit IN (1, 2, 3)),   -- 1 credits (micro), 2 allowance of a key (micro), 3 open jobs
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
  IF EXISTS (SELECT FROM (SELECT e.txn_id, e.amount, (SELECT a.unit FROM account a WHERE a.id = e.account_id) AS unit FROM new_entries e) s
              GROUP BY s.txn_id, s.unit HAVING sum(s.amount) <> 0)          -- the unit by a look-up per entry, never by a join over all accounts
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

-- The door. Judges the operations of a batch one after the other, posts first, then holds, exactly as if each had come alone: against the
-- locked rows of all accounts that the batch can touch, kept in arrays. Then it writes what it accepted, one statement per table. Nothing is
-- written before everything is decided, so that a bad operation never costs the batch more than itself.
--
-- Legs and lines are flat arrays in the order of their operations; l_txn and hl_hold say which one (from 1) each belongs to. A line with
-- amount 0 is a pocket: pockets are emptied in their order until the hold's amount is reached; any other line must fit whole.
--
-- Answers the statuses of the holds, then those of the posts:
--   ok | exists | conflict | again | invalid | no_account | unbalanced | no_hold | over_hold | no_txn | funds | limit
CREATE FUNCTION ledger.apply(
  h_id uuid[], h_amount bigint[], h_ttl_s int[], h_meta text[], h_digest bigint[], hl_hold int[], hl_account bigint[], hl_amount bigint[],
  t_id uuid[], t_kind smallint[], t_hold boolean[], t_meta text[], t_reverses uuid[], t_digest bigint[], l_txn int[], l_account bigint[], l_amount bigint[])
RETURNS text[] LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = ledger, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off   -- plans by key, whatever the statistics say
AS $$
#variable_conflict use_variable
DECLARE
  most CONSTANT bigint := 1000000000000000;          -- of one amount, so that sums stay far inside a bigint
  bottomless CONSTANT bigint := -4000000000000000000;
  n_holds CONSTANT int := cardinality(h_id); n_lines CONSTANT int := cardinality(hl_account);
  n_posts CONSTANT int := cardinality(t_id); n_legs CONSTANT int := cardinality(l_account);
  now_at timestamptz; r record; n int; k int; i int; first int; last int; m bigint; need bigint; is_bad boolean; is_unknown boolean;
  s1 bigint; s2 bigint; s3 bigint;                   -- sums of a post's legs per unit
  -- the locked accounts, in the order of their ids
  acc bigint[]; unit int[]; posted bigint[]; held bigint[]; seq bigint[]; bottom bigint[];
  allowed bigint[];                                  -- what the post in hand may still take from each account; zero between posts
  -- of each leg, then each line, then each line of an open hold: its account's place among the locked, 0 when there is no such account
  spot int[]; line_0 CONSTANT int := n_legs; open_0 CONSTANT int := n_legs + n_lines;
  prior int[];                                       -- of each post, then each hold: 0 new, 1 done before, 2 the id is taken, 3 twice in this batch
  -- the open hold of each post, and the lines of all of them
  o_first int[] := array_fill(0, ARRAY[n_posts]); o_last int[] := array_fill(0, ARRAY[n_posts]);
  o_digest bigint[] := array_fill(NULL::bigint, ARRAY[n_posts]); o_at timestamptz[] := array_fill(NULL::timestamptz, ARRAY[n_posts]);
  o_account bigint[] := '{}'; o_amount bigint[] := '{}';
  -- what is to be written
  t_status text[] := array_fill('ok'::text, ARRAY[n_posts]); resolved uuid[] := '{}'; reversed uuid[] := '{}';
  e_seq bigint[] := array_fill(0::bigint, ARRAY[n_legs]); e_balance bigint[] := array_fill(0::bigint, ARRAY[n_legs]);
  h_status text[] := array_fill('ok'::text, ARRAY[n_holds]); h_first int[] := array_fill(0, ARRAY[n_holds]); h_last int[] := array_fill(0, ARRAY[n_holds]);
  takes bigint[] := array_fill(0::bigint, ARRAY[n_lines]);
BEGIN
  IF cardinality(l_txn) <> n_legs OR cardinality(l_amount) <> n_legs OR cardinality(hl_hold) <> n_lines OR cardinality(hl_amount) <> n_lines
     OR coalesce(array_position(l_amount, NULL), array_position(hl_amount, NULL), array_position(h_amount, NULL), array_position(h_ttl_s, NULL),
                 array_position(t_hold, NULL)) IS NOT NULL THEN
    RAISE EXCEPTION 'the arrays of the batch do not fit together' USING ERRCODE = 'invalid_parameter_value';
  END IF;

  -- The open holds of the posts. They never change, and vanish only with a transaction of their id, which is looked for after the locks.
  IF n_posts > 0 THEN
    FOR r IN SELECT u.n, h.accounts, h.amounts, h.digest, h.at FROM unnest(t_id) WITH ORDINALITY AS u(id, n) JOIN hold h ON h.id = u.id ORDER BY u.n LOOP
      o_first[r.n] := cardinality(o_account) + 1; o_account := o_account || r.accounts; o_amount := o_amount || r.amounts;
      o_last[r.n] := cardinality(o_account); o_digest[r.n] := r.digest; o_at[r.n] := r.at;
    END LOOP;
  END IF;

  -- Every account this batch can touch, locked once, first, in id order, outside any savepoint: no deadlock by construction.
  SELECT array_agg(s.id), array_agg(s.unit), array_agg(s.posted), array_agg(s.held), array_agg(s.seq), array_agg(coalesce(s.floor, bottomless))
    INTO acc, unit, posted, held, seq, bottom
    FROM (SELECT x.id, x.unit, x.posted, x.held, x.seq, x.floor FROM account x WHERE x.id = ANY (l_account || hl_account || o_account)
           ORDER BY x.id FOR NO KEY UPDATE) s;
  now_at := clock_timestamp();                       -- after the locks: order of time = order of entries, per account
  allowed := array_fill(0::bigint, ARRAY[coalesce(cardinality(acc), 0)]);
  SELECT array_agg(coalesce(x.i, 0) ORDER BY u.k) INTO spot
    FROM unnest(l_account || hl_account || o_account) WITH ORDINALITY AS u(id, k) LEFT JOIN unnest(acc) WITH ORDINALITY AS x(id, i) ON x.id = u.id;
  SELECT array_agg(CASE WHEN u.times > 1 THEN 3
                        WHEN x.id IS NOT NULL THEN CASE WHEN u.digest = CASE WHEN u.n > n_posts THEN x.hold_digest ELSE x.digest END THEN 1 ELSE 2 END
                        WHEN h.id IS NOT NULL AND u.n > n_posts THEN CASE WHEN u.digest = h.digest THEN 1 ELSE 2 END ELSE 0 END ORDER BY u.n) INTO prior
    FROM (SELECT v.id, v.digest, v.n, row_number() OVER (PARTITION BY v.id ORDER BY v.n) AS times
            FROM unnest(t_id || h_id, t_digest || h_digest) WITH ORDINALITY AS v(id, digest, n)) u
    LEFT JOIN txn x ON x.id = u.id LEFT JOIN hold h ON h.id = u.id;

  -- Posts.
  last := 0;
  FOR n IN 1 .. n_posts LOOP
    first := last + 1;                               -- legs first to last are this post's
    WHILE last < n_legs AND l_txn[last + 1] = n LOOP last := last + 1; END LOOP;
    IF prior[n] > 0 THEN t_status[n] := (ARRAY['exists', 'conflict', 'again'])[prior[n]]; CONTINUE; END IF;
    is_bad := last < first AND NOT t_hold[n]; is_unknown := false; s1 := 0; s2 := 0; s3 := 0;
    FOR k IN first .. last LOOP
      m := l_amount[k]; i := spot[k];
      IF m = 0 OR m > most OR m < -most THEN is_bad := true; END IF;
      IF i = 0 THEN is_unknown := true;
      ELSIF unit[i] = 1 THEN s1 := s1 + m;
      ELSIF unit[i] = 2 THEN s2 := s2 + m;
      ELSE s3 := s3 + m; END IF;
    END LOOP;
    IF is_bad THEN t_status[n] := 'invalid'; CONTINUE; END IF;
    IF is_unknown THEN t_status[n] := 'no_account'; CONTINUE; END IF;
    IF s1 <> 0 OR s2 <> 0 OR s3 <> 0 THEN t_status[n] := 'unbalanced'; CONTINUE; END IF;
    IF t_hold[n] THEN
      IF o_first[n] = 0 THEN                         -- not there, or placed after we took our locks
        t_status[n] := CASE WHEN EXISTS (SELECT FROM hold h WHERE h.id = t_id[n]) THEN 'again' ELSE 'no_hold' END; CONTINUE;
      END IF;
      FOR k IN o_first[n] .. o_last[n] LOOP i := spot[open_0 + k]; allowed[i] := allowed[i] + o_amount[k]; END LOOP;
      FOR k IN first .. last LOOP
        m := l_amount[k];
        IF m < 0 THEN i := spot[k]; allowed[i] := allowed[i] + m; IF allowed[i] < 0 THEN is_bad := true; END IF; END IF;
      END LOOP;
      FOR k IN o_first[n] .. o_last[n] LOOP allowed[spot[open_0 + k]] := 0; END LOOP;
      IF is_bad THEN
        FOR k IN first .. last LOOP allowed[spot[k]] := 0; END LOOP;
        t_status[n] := 'over_hold'; CONTINUE;
      END IF;
    ELSIF o_first[n] > 0 THEN t_status[n] := 'conflict'; CONTINUE;                           -- the id belongs to an open hold
    END IF;
    IF t_reverses[n] IS NOT NULL THEN
      IF NOT EXISTS (SELECT FROM txn x WHERE x.id = t_reverses[n]) THEN t_status[n] := 'no_txn'; CONTINUE; END IF;
      IF t_reverses[n] = ANY (reversed) OR EXISTS (SELECT FROM txn x WHERE x.reverses = t_reverses[n]) THEN t_status[n] := 'conflict'; CONTINUE; END IF;
    END IF;
    FOR k IN first .. last LOOP
      i := spot[k]; m := posted[i] + l_amount[k]; posted[i] := m; e_balance[k] := m;
      m := seq[i] + 1; seq[i] := m; e_seq[k] := m;
    END LOOP;
    IF t_hold[n] THEN                                -- it takes at most what its hold kept, so that funds need no look
      FOR k IN o_first[n] .. o_last[n] LOOP i := spot[open_0 + k]; held[i] := held[i] - o_amount[k]; END LOOP;
      resolved := array_append(resolved, t_id[n]);
    ELSE
      FOR k IN first .. last LOOP i := spot[k]; IF l_amount[k] < 0 AND posted[i] - held[i] < bottom[i] THEN is_bad := true; END IF; END LOOP;
      IF is_bad THEN
        FOR k IN first .. last LOOP i := spot[k]; posted[i] := posted[i] - l_amount[k]; seq[i] := seq[i] - 1; e_seq[k] := 0; END LOOP;
        t_status[n] := 'funds'; CONTINUE;
      END IF;
    END IF;
    IF t_reverses[n] IS NOT NULL THEN reversed := array_append(reversed, t_reverses[n]); END IF;
  END LOOP;
  IF last <> n_legs THEN RAISE EXCEPTION 'legs are not in the order of their posts' USING ERRCODE = 'invalid_parameter_value'; END IF;

  -- Holds.
  last := 0;
  FOR n IN 1 .. n_holds LOOP
    first := last + 1;                               -- lines first to last are this hold's
    WHILE last < n_lines AND hl_hold[last + 1] = n LOOP last := last + 1; END LOOP;
    k := prior[n_posts + n];
    IF k > 0 THEN h_status[n] := (ARRAY['exists', 'conflict', 'again'])[k]; CONTINUE; END IF;
    need := h_amount[n]; is_bad := last < first OR need <= 0 OR need > most OR h_ttl_s[n] NOT BETWEEN 1 AND 604800; is_unknown := false;
    FOR k IN first .. last LOOP
      m := hl_amount[k];
      IF m < 0 OR m > most THEN is_bad := true; END IF;
      IF spot[line_0 + k] = 0 THEN is_unknown := true; END IF;
    END LOOP;
    IF is_bad THEN h_status[n] := 'invalid'; CONTINUE; END IF;
    IF is_unknown THEN h_status[n] := 'no_account'; CONTINUE; END IF;
    FOR k IN first .. last LOOP
      i := spot[line_0 + k]; m := posted[i] - held[i] - bottom[i];                            -- the room of this account
      IF hl_amount[k] = 0 THEN m := least(need, greatest(m, 0)); need := need - m;
      ELSIF hl_amount[k] > m THEN is_bad := true; EXIT;
      ELSE m := hl_amount[k]; END IF;
      takes[k] := m; held[i] := held[i] + m;
    END LOOP;
    IF is_bad OR need > 0 THEN                                                                -- give back what this hold had taken
      FOR k IN first .. last LOOP i := spot[line_0 + k]; held[i] := held[i] - takes[k]; END LOOP;
      h_status[n] := CASE WHEN is_bad THEN 'limit' ELSE 'funds' END; CONTINUE;
    END IF;
    h_first[n] := first; h_last[n] := last;
  END LOOP;
  IF last <> n_lines THEN RAISE EXCEPTION 'lines are not in the order of their holds' USING ERRCODE = 'invalid_parameter_value'; END IF;

  -- Everything is decided: write. An id that arrives in two batches over different accounts at one moment ends the later batch with a
  -- unique violation; sent again, it is answered by what stands then.
  IF cardinality(resolved) > 0 THEN
    DELETE FROM hold h WHERE h.id = ANY (resolved);
    GET DIAGNOSTICS k = ROW_COUNT;
    IF k <> cardinality(resolved) THEN RAISE EXCEPTION 'a hold was resolved twice' USING ERRCODE = 'serialization_failure'; END IF;
  END IF;
  IF 'ok' = ANY (t_status) THEN
    INSERT INTO txn (id, kind, at, hold_digest, held_at, reverses, digest, meta)
      SELECT u.id, u.kind, now_at, u.o_digest, u.o_at, u.reverses, u.digest, u.meta::jsonb
        FROM unnest(t_id, t_kind, o_digest, o_at, t_reverses, t_digest, t_meta, t_status) AS u(id, kind, o_digest, o_at, reverses, digest, meta, status)
       WHERE u.status = 'ok';
    INSERT INTO entry (account_id, seq, txn_id, amount, balance)
      SELECT u.account, u.seq, t_id[u.n], u.amount, u.balance FROM unnest(l_account, e_seq, l_txn, l_amount, e_balance) AS u(account, seq, n, amount, balance)
       WHERE u.seq > 0;
  END IF;
  IF 'ok' = ANY (h_status) THEN
    INSERT INTO hold (id, accounts, amounts, digest, meta, at, expires_at)
      SELECT u.id, hl_account[u.first:u.last], takes[u.first:u.last], u.digest, coalesce(u.meta::jsonb, '{}'), now_at, now_at + make_interval(secs => u.ttl_s)
        FROM unnest(h_id, h_first, h_last, h_digest, h_meta, h_ttl_s, h_status) AS u(id, first, last, digest, meta, ttl_s, status)
       WHERE u.status = 'ok';
  END IF;
  UPDATE account x SET posted = u.posted, held = u.held, seq = u.seq
    FROM unnest(acc, posted, held, seq) AS u(id, posted, held, seq) WHERE x.id = u.id AND (x.held <> u.held OR x.seq <> u.seq);
  RETURN h_status || t_status;
END $$;

-- Rights: functions are executable by everybody unless revoked; tables are read-only for the service.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
GRANT USAGE ON SCHEMA ledger TO gfe_ledger;
GRANT EXECUTE ON FUNCTION ledger.apply, ledger.open_accounts TO gfe_ledger;
GRANT SELECT ON ledger.account, ledger.hold, ledger.txn, ledger.entry TO gfe_ledger;
