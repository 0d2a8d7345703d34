"""What Prometheus sees of an edge gateway."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class EdgeMetrics:
    """The process's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.agents = Gauge("gfe_edge_agents", "Agents that are connected.", registry=r)
        self.connections = Counter("gfe_edge_connections", "Connections that were let in.", registry=r)
        self.refusals = Counter("gfe_edge_refusals", "Connections that were refused, by code.", ["code"], registry=r)
        self.closes = Counter("gfe_edge_closes", "Connections that ended, by close code.", ["code"], registry=r)
        self.frames = Counter("gfe_edge_frames", "Frames of agents, by type.", ["type"], registry=r)
        self.stale_frames = Counter("gfe_edge_stale_frames", "Frames of attempts that are over.", registry=r)
        self.foreign_frames = Counter("gfe_edge_foreign_frames", "Frames of attempts of other nodes.", registry=r)
        self.replays = Counter("gfe_edge_replays", "Chunks that came again after a new connection.", registry=r)
        self.offers = Counter("gfe_edge_offers", "Attempts, by what became of the offer.", ["outcome"], registry=r)
        self.running = Gauge("gfe_edge_running", "Attempts that run.", registry=r)
        self.counted = Counter("gfe_edge_counted", "Answers, by who counted their tokens.", ["by"], registry=r)
        self.count_mismatches = Counter(
            "gfe_edge_count_mismatches", "Answers of which an agent claims another count than ours.", registry=r
        )
        self.too_fast = Counter("gfe_edge_too_fast", "Answers that came faster than the node's card can write them.", registry=r)
        self.receipts = Counter("gfe_edge_receipts", "Answers, by what their receipt is worth.", ["receipt"], registry=r)
