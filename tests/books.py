"""What the books and the job rows must say when all is quiet, beyond the rules of `gfe ledger audit` (faults reference 4)."""

import psycopg

from ledger.client import uuid_of_job

# (8) ended jobs are settled; (11) no job outside an end state; a job is paid at most once, for its last attempt, on the node that held it.
RULES = {
    "no hold is open": "SELECT id FROM ledger.hold",
    "no job is outside an end state": "SELECT id, state, driver FROM serve_app.job WHERE state < 2",
    "nothing is owed": "SELECT id, owed FROM serve_app.job WHERE owed IS NOT NULL",
    "each paid job is on record, was delivered, and costs what was taken": (
        "SELECT t.id, j.state, j.cost, -sum(e.amount) FROM ledger.txn t JOIN ledger.entry e ON e.txn_id = t.id "
        "JOIN ledger.account a ON a.id = e.account_id AND a.unit = 1 AND e.amount < 0 LEFT JOIN serve_app.job j ON j.id = t.id "
        # What the hostile machine captured was never a job.
        "WHERE t.kind = 2 AND t.meta->>'model' IS DISTINCT FROM 'hostile' GROUP BY t.id, j.id, j.state, j.cost, j.is_incomplete "
        "HAVING j.id IS NULL OR NOT (j.state IN (2, 4) OR j.is_incomplete) OR j.cost IS DISTINCT FROM -sum(e.amount)"
    ),
    "a job that failed before its beginning was delivered costs nothing": (
        "SELECT j.id FROM serve_app.job j JOIN ledger.txn t ON t.id = j.id AND t.kind = 2 WHERE j.state = 3 AND NOT j.is_incomplete"
    ),
}


def rows_of(admin_url, query, *values):
    """Read rows as the administrator."""
    with psycopg.connect(admin_url, connect_timeout=3) as connection:
        return connection.execute(query.encode(), values or None).fetchall()


def unquiet(admin_url):
    """Name what is not as it must be, with the first rows."""
    with psycopg.connect(admin_url, connect_timeout=3) as connection:
        found = {rule: connection.execute(query.encode() + b" LIMIT 5").fetchall() for rule, query in RULES.items()}
    return {rule: rows for rule, rows in found.items() if rows}


def paid_jobs(admin_url):
    """Tell which jobs were paid, and on which attempt."""
    with psycopg.connect(admin_url, connect_timeout=3) as connection:
        rows = connection.execute(
            "SELECT t.id, j.attempt FROM ledger.txn t JOIN serve_app.job j ON j.id = t.id WHERE t.kind = 2 "
            "AND EXISTS (SELECT FROM ledger.entry e WHERE e.txn_id = t.id)"
        ).fetchall()
    return {str(row[0]): row[1] for row in rows}


def attempts_of(admin_url, jobs):
    """Tell how many attempts each job took."""
    ids = {uuid_of_job(job): job for job in jobs}
    with psycopg.connect(admin_url, connect_timeout=3) as connection:
        rows = connection.execute("SELECT id, attempt FROM serve_app.job WHERE id = ANY(%s)", [list(ids)]).fetchall()
    return {ids[row[0]]: row[1] for row in rows}


def contradictions(admin_url, outcomes):
    """Compare what the clients saw with the books: each `ok` is paid exactly once, each refusal not at all, never two for one."""
    paid = paid_jobs(admin_url)
    found = []
    for outcome in outcomes:
        taken = [job for job in outcome.jobs if str(uuid_of_job(job)) in paid]
        if len(taken) > 1:
            found.append(("doubled", outcome.number, taken))
        if outcome.ended == "ok" and taken != outcome.jobs[-1:]:
            found.append(("not paid", outcome.number, outcome.jobs))
        if outcome.ended == "refused" and taken:
            found.append(("paid though refused", outcome.number, taken))
    return found
