"""The four boards: what happens on the market, in the cluster, in the ledger, and with providers."""

from serve_app.boards.expressions import (
    AUDITED_AT,
    READY_NODES,
    SLOTS_IN_USE,
    failed_share,
    per_second,
    quantile,
    since,
)
from serve_app.boards.panels import BYTES, COUNT, CREDITS, PER_SECOND, PERCENT, SECONDS, SHARE, Board, Line, Panel


def _rate(title: str, says: str, metric: str, by: str) -> Panel:
    """Show how often something happens, by a label."""
    return Panel(title, says, PER_SECOND, (Line(per_second(metric, by), f"{{{{{by}}}}}"),))


def _number(title: str, says: str, expression: str, unit: str = COUNT, red_from: float | None = None) -> Panel:
    return Panel(title, says, unit, (Line(expression, title),), is_number=True, red_from=red_from)


def _times(title: str, says: str, buckets: str) -> Panel:
    """Show the spread of a time, of jobs that somebody reads along."""
    return Panel(title, says, SECONDS, tuple(Line(quantile(part, buckets), f"{part:.0%}") for part in (0.5, 0.95, 0.99)))


MARKET = Board(
    "market", "Market", "What consumers ask for, and what they get.",
    (
        _number("Failed", "Share of what consumers asked that failed by our fault, 5 minutes.", failed_share("5m"), SHARE, 0.005),
        _number("Jobs now", "Holds that are open in the ledger: jobs on their way.", "max(gfe_ledger_open_holds)"),
        _number("Waiting", "Jobs that wait for a slot.", "max(ray_gfe_jobs_waiting)"),
        _number("First token, 95 %", "Below this stayed 95 % of the times until the first token.", quantile(0.95, "ray_gfe_first_tokens_total"), SECONDS, 10),
        _number("Oldest unsettled", "How long the oldest ended job waits for the ledger.", "max(ray_gfe_oldest_unsettled_seconds)", SECONDS, 300),
        _number("Replicas", "Replicas of the job APIs that tell their figures.", "count(time() - ray_gfe_serve_told_timestamp_seconds < 60)"),
        _rate("Jobs that ended", "By outcome; `refused`: the request was to blame.", "ray_gfe_jobs_ended_total", "outcome"),
        _rate("Answers", "Of the job APIs, by HTTP status.", "ray_gfe_answers_total", "status"),
        _times("Time to the first token", "From the request on, waiting included.", "ray_gfe_first_tokens_total"),
        _times("Wait for a slot", "Of jobs that somebody reads along.", "ray_gfe_waits_total"),
        _rate("Tokens", "Of jobs that ended.", "ray_gfe_tokens_total", "kind"),
        Panel("Turnover", "What jobs cost, in micro-credits per second, and how many were settled.", CREDITS, (
            Line(per_second("ray_gfe_settled_micros_total"), "micro-credits/s"), Line(per_second("ray_gfe_settled_total"), "jobs/s"))),
    ),
)  # fmt: skip
CLUSTER = Board(
    "cluster", "Cluster", "Which nodes are there, and what they can take.",
    (
        _number("Nodes ready", "Nodes that take jobs.", READY_NODES),
        _number("Slots in use", "Share of the slots of nodes that take jobs.", SLOTS_IN_USE, SHARE, 0.9),
        _number("Oldest wait", "How long the job that waits longest has waited.", "max(ray_gfe_oldest_wait_seconds)", SECONDS, 60),
        _number("Agents", "Agents that are connected to edge gateways.", "sum(gfe_edge_agents)"),
        _number("Dispatcher heard", "How long ago the Dispatcher told its figures.", since("ray_gfe_dispatcher_told_timestamp_seconds"), SECONDS, 60),
        _number("Fullest disk", "Of all machines of the cluster.", "max(ray_node_disk_utilization_percentage)", PERCENT, 90),
        Panel("Nodes", "By kind and state.", COUNT, (Line("sum by (kind, state) (ray_gfe_nodes)", "{{kind}} {{state}}"),)),
        Panel("Nodes lost", "Nodes that were well and are not, in 15 minutes.", COUNT, (
            Line("sum by (kind) (increase(ray_gfe_nodes_lost_total[15m]))", "{{kind}}"),)),
        Panel("Standby nodes", "Nodes that come when jobs wait, by where they stand.", COUNT, (Line("sum by (state) (ray_gfe_standby_nodes)", "{{state}}"),)),
        Panel("Slots", "Of nodes that take jobs.", COUNT, (Line("sum by (state) (ray_gfe_slots)", "{{state}}"),)),
        _rate("Broken attempts", "By how the attempt broke on its node.", "ray_gfe_broken_attempts_total", "by"),
        Panel("Processors", "Use of each machine's cores.", PERCENT, (Line("max by (ip) (ray_node_cpu_utilization)", "{{ip}}"),)),
        Panel("Memory", "Used on each machine.", BYTES, (
            Line("max by (ip) (ray_node_mem_used)", "{{ip}} used"), Line("max by (ip) (ray_node_mem_total)", "{{ip}} has"))),
    ),
)  # fmt: skip
LEDGER = Board(
    "ledger", "Ledger", "Whether the books hold, and what waits there.",
    (
        _number("Broken rules", "Of the books, as the last audits found.", "max(gfe_ledger_audit_violations)", COUNT, 1),
        _number("Audited", "How long ago an audit of what is new ended.", since(AUDITED_AT), SECONDS, 600),
        _number("Database heard", "How long ago PostgreSQL told the figures.", since("gfe_ledger_looked_timestamp_seconds"), SECONDS, 60),
        _number("Holds overdue", "Open holds whose time is over.", "max(gfe_ledger_holds_overdue)", COUNT, 1),
        _number("Clearing", "Micro-credits on clearing accounts; not zero while a withdrawal is under way.", "max(gfe_ledger_clearing_micros)", CREDITS),
        _number("Withdrawals", "That wait for an operator.", "max(gfe_ledger_withdrawals_pending)"),
        Panel("Holds", "Open holds: what consumers have reserved for jobs.", COUNT, (Line("max(gfe_ledger_open_holds)", "open"),)),
        Panel("Ages", "Of the oldest open hold, of the oldest overdue one, and of the oldest event of a payment gateway.", SECONDS, (
            Line("max(gfe_ledger_oldest_hold_seconds)", "open hold"), Line("max(gfe_ledger_oldest_overdue_hold_seconds)", "overdue hold"),
            Line("max(gfe_ledger_oldest_payment_event_seconds)", "payment event"))),
        Panel("Payment events", "That wait to be worked.", COUNT, (Line("max(gfe_ledger_payment_events_waiting)", "waiting"),)),
        _rate("Refusals", "Requests and operations that the ledger refused, by code.", "gfe_ledger_refusals_total", "code"),
        Panel("Operations", "That the writer posted, per second, and batches.", PER_SECOND, (
            Line(per_second("gfe_ledger_writer_batch_size_sum"), "operations"), Line(per_second("gfe_ledger_writer_batch_size_count"), "batches"))),
        Panel("Operations per batch", "The more, the busier.", COUNT, (
            Line("histogram_quantile(0.95, sum by (le) (rate(gfe_ledger_writer_batch_size_bucket[5m])))", "95 %"),)),
    ),
)  # fmt: skip
PROVIDER = Board(
    "provider", "Providers", "How other people's machines behave, and how they are verified.",
    (
        _number("Quarantined", "Nodes in quarantine.", "max(gfe_ledger_nodes_quarantined)"),
        _number("Appeals", "That wait for an operator.", "max(gfe_ledger_appeals_open)"),
        _number("Samples", "That wait for their audit.", "max(gfe_ledger_audit_samples_waiting)"),
        _number("Oldest sample", "It is forgotten after three days.", "max(gfe_ledger_oldest_audit_sample_seconds)", SECONDS, 86400),
        _number("Auditor heard", "How long ago an auditor asked for work.", since("gfe_auditor_looked_timestamp_seconds"), SECONDS, 300),
        _number("Running", "Attempts that run on edge nodes.", "sum(gfe_edge_running)"),
        Panel("Agents", "That are connected, and connections that were let in per second.", COUNT, (
            Line("sum(gfe_edge_agents)", "agents"), Line(per_second("gfe_edge_connections_total"), "connections/s"))),
        _rate("Refused connections", "By code.", "gfe_edge_refusals_total", "code"),
        _rate("Ended connections", "By close code.", "gfe_edge_closes_total", "code"),
        _rate("Offers", "Attempts, by what became of the offer.", "gfe_edge_offers_total", "outcome"),
        _rate("Frames", "Of agents, by type.", "gfe_edge_frames_total", "type"),
        Panel("Odd frames", "Of attempts that are over, of other nodes' attempts, and chunks that came again.", PER_SECOND, (
            Line(per_second("gfe_edge_stale_frames_total"), "stale"), Line(per_second("gfe_edge_foreign_frames_total"), "foreign"),
            Line(per_second("gfe_edge_replays_total"), "again"))),
        _rate("Counted by", "Answers, by who counted their tokens.", "gfe_edge_counted_total", "by"),
        Panel("Suspicious answers", "Another count than ours, or faster than the card can write.", PER_SECOND, (
            Line(per_second("gfe_edge_count_mismatches_total"), "count"), Line(per_second("gfe_edge_too_fast_total"), "too fast"))),
        _rate("Receipts", "By what they are worth.", "gfe_edge_receipts_total", "receipt"),
        Panel("Verdicts about nodes", "By rule and finding.", PER_SECOND, (Line(per_second("gfe_ledger_node_audits_total", "rule, found"), "{{rule}} {{found}}"),)),
        Panel("Auditor", "Verdicts, samples given up, and what did not answer.", PER_SECOND, (
            Line(per_second("gfe_auditor_verdicts_total"), "verdicts"), Line(per_second("gfe_auditor_given_up_total"), "given up"),
            Line(per_second("gfe_auditor_failures_total", "who"), "{{who}} silent"))),
        Panel("Examinations", "How long a sample took, and tokens judged per second.", SECONDS, (
            Line("histogram_quantile(0.95, sum by (le) (rate(gfe_auditor_examination_seconds_bucket[1h])))", "95 %"), Line(per_second("gfe_auditor_tokens_total"), "tokens/s"))),
        _rate("Chosen for audit", "Jobs that Serve chose, by what became of them.", "ray_gfe_audit_samples_total", "became"),
        _rate("Scorable", "Jobs of edge nodes that ended well, by whether an audit can score them.", "ray_gfe_audit_edge_jobs_total", "scoring"),
        _rate("Canaries", "Test jobs, by what became of them.", "ray_gfe_canaries_total", "became"),
    ),
)  # fmt: skip
BOARDS = (MARKET, CLUSTER, LEDGER, PROVIDER)
