"""The questions that boards and rules ask, in PromQL. Each is written once."""


def per_second(metric: str, by: str = "", window: str = "5m") -> str:
    """Ask how often something happened, per second."""
    return f"sum {f'by ({by}) ' if by else ''}(rate({metric}[{window}]))"


def failed_share(window: str) -> str:
    """Ask which share of what consumers asked for failed by our fault: 5xx answers, broken streams, and jobs in the background that failed."""
    failed = (
        f'sum(rate(ray_gfe_answers_total{{status=~"5.."}}[{window}]))'
        f' + sum(rate(ray_gfe_jobs_ended_total{{outcome="incomplete"}}[{window}]))'
        f' + sum(rate(ray_gfe_jobs_ended_total{{outcome="failed", sync="no"}}[{window}]))'
    )
    return f"({failed}) / sum(rate(ray_gfe_answers_total[{window}]))"


def quantile(part: float, buckets: str, window: str = "10m", where: str = 'sync="yes"') -> str:
    """Ask below which time a part of all cases stayed, in seconds. `buckets`: a total with the label `le`."""
    return f"histogram_quantile({part:g}, sum by (le) (rate({buckets}{{{where}}}[{window}])))"


def since(timestamp: str) -> str:
    """Ask how long ago something was, in seconds."""
    return f"time() - max({timestamp})"


READY_NODES = 'sum(ray_gfe_nodes{state="ready"})'
SLOTS_IN_USE = 'sum(ray_gfe_slots{state="busy"}) / sum(ray_gfe_slots)'
AUDITED_AT = 'gfe_ledger_audit_timestamp_seconds{audit="incremental"}'
