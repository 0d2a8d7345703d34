"""What the ledger tells of itself: revoked credentials, whose nodes there are in which state, catalog and prices. Polled: a cut takes seconds.

A ledger that is silent changes nothing that is known: credentials are asked for anyway, and nodes stay what they were.
"""

import asyncio
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, Self

import structlog

from cluster.runtime.dialect import full_name
from ledger.client import FeedEntry, FeedPage, LedgerError, LedgerUnavailable, Price
from serve_app.catalog import Catalog, CatalogMode

log = structlog.get_logger()
POLL_S = 2.0
CATCH_UP_S = 0.2  # between two polls that unknown names cause
PAGE = 500
ACTIVE = "active"
GONE = "deregistered"
ADMITTED = "admitted"


class FeedSource(Protocol):
    """Where the feed comes from: the ledger's client."""

    async def feed(self, after: int | None, limit: int = PAGE) -> FeedPage:
        """Read what changed after an entry."""


@dataclass(frozen=True, slots=True)
class NodeFact:
    """What the ledger says of a node; what it offers it says itself, to the Dispatcher. `username` is its owner's.

    `key`: of an edge node, the thumbprint that its agent's tokens must carry; `public_key` the key itself, 32 raw bytes.
    `audit_percent`: how many of a hundred of its jobs are audited.
    """

    owner: str
    kind: str
    state: str
    name: str = ""
    username: str = ""
    tier: str = ""
    key: str | None = None
    public_key: bytes | None = None
    audit_percent: int = 0

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """Read an entry's detail."""
        texts = {name: str(said.get(name, "")) for name in ("owner", "kind", "state", "name", "username", "tier")}
        public = said.get("public_key")
        return cls(
            **texts, key=said.get("key"), public_key=urlsafe_b64decode(public + "=") if public else None,
            audit_percent=int(said.get("audit_percent") or 0),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class AdmissionFact:
    """Whether consumers' jobs for a model may go to an edge node, in a sentence. `is_final`: time does not end the refusal."""

    state: str
    said: str
    is_final: bool = False


class LedgerFeed:
    """Keeps up with the feed. `revoked` is told of each credential that ended: `key:<id>`, `session:<id>`, `person:<id>`."""

    def __init__(self, ledger: FeedSource, revoked: Callable[[str, str], None], mode: CatalogMode = CatalogMode.OPEN) -> None:
        self._ledger = ledger
        self._revoked = revoked
        self._seq: int | None = None
        self._polling = asyncio.Lock()
        self._polled_at = float("-inf")
        self.nodes: dict[str, NodeFact] = {}
        self._inactive: frozenset[str] = frozenset()
        self._own: dict[str, frozenset[str]] = {}  # owner -> edge nodes
        self.admission_on = asyncio.Event()  # set while models of edge nodes are tested before they get paid jobs
        self._admissions: dict[str, dict[tuple[str, str], AdmissionFact]] = {}  # node -> model and the digest of its weights
        self._admitted: dict[str, frozenset[tuple[str, str]]] = {}
        self._prices: dict[str, Price] = {}  # by model; "" is everybody else's
        self.catalog = Catalog(mode)

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            try:
                while await self.poll() >= PAGE:
                    pass
            except LedgerError as silent:
                log.info("feed_silent", reason=type(silent).__name__)
            await asyncio.sleep(POLL_S)

    async def poll(self) -> int:
        """Read one page; answer how much was new.

        Raises:
            LedgerUnavailable: The ledger does not answer.
        """
        async with self._polling:
            return await self._poll()

    async def catch_up(self) -> None:
        """Hear what the ledger has told until now: somebody names what is not known here yet. Many who ask at once cause one poll."""
        asked_at = time.monotonic()
        async with self._polling:
            if self._polled_at >= asked_at:
                return
            await asyncio.sleep(max(0.0, self._polled_at + CATCH_UP_S - asked_at))
            with suppress(LedgerError):  # what is known stays
                await self._poll()

    async def _poll(self) -> int:
        self._polled_at = time.monotonic()
        page = await self._ledger.feed(self._seq, PAGE)
        if page.reset:
            self.nodes = {}
            self._admissions, self._admitted = {}, {}
            self._prices = {}
            self.catalog.digests.clear()
        for entry in page.entries:
            self._take(entry)
        self._seq = page.seq
        (self.admission_on.set if page.has_admission else self.admission_on.clear)()
        if page.reset or page.entries:
            self._sort()
        return 0 if page.reset else len(page.entries)

    def _take(self, entry: FeedEntry) -> None:
        match entry.kind:
            case "node":
                self.nodes[entry.subject] = NodeFact.of(entry.detail)
            case "price":
                self._prices[entry.subject] = Price(**{name: value for name, value in entry.detail.items() if name in Price.model_fields})
            case "model":
                self._take_model(entry.subject, entry.detail.get("digest"))
            case "admission":
                self._take_admission(entry.subject, entry.detail)
            case "key_revoked" | "session_revoked" | "person_blocked":
                self._revoked(entry.kind, entry.subject)

    def _take_model(self, name: str, digest: object) -> None:
        """Take a model into the catalog, or out of it: then there is no digest."""
        if isinstance(digest, str):
            self.catalog.digests[full_name(name)] = digest
        else:
            self.catalog.digests.pop(full_name(name), None)

    def _take_admission(self, node: str, said: Mapping[str, Any]) -> None:
        known = self._admissions.setdefault(node, {})
        key = str(said.get("model")), str(said.get("digest"))
        known[key] = AdmissionFact(str(said.get("state")), str(said.get("said", "")), bool(said.get("is_final")))
        self._admitted[node] = frozenset(key for key, fact in known.items() if fact.state == ADMITTED)

    def admission(self, node: str, model: str, digest: str) -> AdmissionFact | None:
        """Tell what the ledger says of a model of an edge node; None: nothing yet."""
        return self._admissions.get(node, {}).get((model, digest))

    def admitted(self, node: str) -> frozenset[tuple[str, str]] | None:
        """Name the models, with the digests of their weights, that consumers' jobs may go to on an edge node; None: all of them."""
        return self._admitted.get(node, frozenset()) if self.admission_on.is_set() else None

    def closed_to(self, consumer: str) -> frozenset[str]:
        """Name the nodes that take no job of a consumer: those that are not active, and the consumer's own edge nodes (seed S21)."""
        own = self._own.get(consumer)
        return self._inactive | own if own else self._inactive

    def is_open(self, node: str) -> bool:
        """Tell whether a node takes jobs of anybody, as far as the ledger says."""
        return node not in self._inactive

    def nodes_of(self, provider: str) -> frozenset[str]:
        """Name the nodes that a provider's name means: the node of this id, or all of an owner, by id or username; gone ones are nobody's."""
        wanted = provider.casefold()
        return frozenset(
            id_ for id_, node in self.nodes.items()
            if node.state != GONE and (provider in {id_, node.owner} or node.username.casefold() == wanted)
        )  # fmt: skip

    def owned_by(self, owner: str) -> dict[str, NodeFact]:
        """Tell of the nodes of an owner, those that are gone too."""
        return {id_: node for id_, node in self.nodes.items() if node.owner == owner}

    def price_of(self, model: str) -> Price:
        """Tell what a job of a model costs now.

        Raises:
            LedgerUnavailable: The ledger has not told any price yet.
        """
        price = self._prices.get(model) or self._prices.get("")
        if price is None:
            raise LedgerUnavailable
        return price

    def _sort(self) -> None:
        """Keep by consumer what every job asks for."""
        self._inactive = frozenset(id_ for id_, node in self.nodes.items() if node.state != ACTIVE)
        own: dict[str, set[str]] = {}
        for id_, node in self.nodes.items():
            if node.kind == "edge":
                own.setdefault(node.owner, set()).add(id_)
        self._own = {owner: frozenset(ids) for owner, ids in own.items()}
