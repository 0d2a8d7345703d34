"""Stand-ins for other services. Each passes the contract tests of the real thing (`tests/contract/`)."""

import time
import uuid
from dataclasses import dataclass, field

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client import (
    Caller,
    Capture,
    CredentialRevoked,
    CredentialUnknown,
    HoldNotOpen,
    HoldPlaced,
    IdempotencyConflict,
    InsufficientFunds,
    JobNotSettled,
    LedgerUnavailable,
    NotFound,
    NotPermitted,
    OpenHold,
    PlaceHold,
    Price,
    RateLimited,
    Settled,
    Void,
    check_api_key,
    credits_text,
    job_cost,
)
from ledger.ids import new_uuid7, text_of
from ledger.pricing import PriceRow, quote

ALL_SCOPES = ("jobs:read", "jobs:write", "wallet:read", "keys:write")
RETRYABLE = "void_retryable"
STATES = {"capture": "captured", "expire": "expired"}


@dataclass
class _Key:
    person: uuid.UUID
    caller: Caller
    is_revoked: bool = False


@dataclass
class _Hold:
    asked: PlaceHold
    placed: HoldPlaced
    person: uuid.UUID
    at: float


@dataclass
class FakeLedger:
    """The ledger's operations in memory, with the same answers. `is_down` makes it answer nobody."""

    flat: int = 1_000_000
    prompt_per_million: int = 0
    completion_per_million: int = 0
    open_jobs: int = 100
    nodes: set[str] = field(default_factory=lambda: {"node_local"})
    is_down: bool = False
    balances: dict[uuid.UUID, int] = field(default_factory=dict)
    keys: dict[str, _Key] = field(default_factory=dict)
    holds: dict[uuid.UUID, _Hold] = field(default_factory=dict)
    resolved: dict[uuid.UUID, tuple[str, _Hold, Capture | Void, int]] = field(default_factory=dict)
    generations: dict[tuple[uuid.UUID, str], int] = field(default_factory=dict)
    signing_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def add_key(self, key, balance=0, scopes=ALL_SCOPES, person=None):
        """Make a key known, of a new person unless one is named."""
        check_api_key(key)
        if person is None:
            person = new_uuid7()
            self.balances[person] = balance
        self.keys[key] = _Key(person, Caller(user=text_of("user", person), username="first", key=key.split("_")[2], scopes=scopes))
        return person

    def revoke(self, key):
        self.keys[key].is_revoked = True

    @property
    def price(self):
        return Price(
            version=1, flat=self.flat, prompt_per_million=self.prompt_per_million, completion_per_million=self.completion_per_million
        )

    def _known(self, credential):
        if self.is_down:
            raise LedgerUnavailable
        check_api_key(credential)
        key = self.keys.get(credential)
        if key is None:
            raise CredentialUnknown
        if key.is_revoked:
            raise CredentialRevoked
        return key

    async def introspect(self, credential):
        return self._known(credential).caller

    async def place_hold(self, operation):
        key = self._known(operation.credential)
        if "jobs:write" not in key.caller.scopes:
            raise NotPermitted("jobs:write")
        id_ = operation.id
        if operation.idempotency_key:
            id_ = self._id_of(key.person, operation.idempotency_key)
            if id_ in self.resolved and self.resolved[id_][0] == RETRYABLE:
                self.generations[key.person, operation.idempotency_key] = self._generation(key.person, operation.idempotency_key) + 1
                id_ = self._id_of(key.person, operation.idempotency_key)
        if id_ in self.holds or id_ in self.resolved:
            return self._repeated(operation, id_, key)
        return self._place(operation, id_, key)

    def _place(self, operation, id_, key):
        price = self.price
        row = PriceRow(price.version, price.flat, price.prompt_per_million, price.completion_per_million)
        amount = max(1, quote(row, operation.prompt_tokens, operation.max_tokens))
        if amount > self.balances[key.person]:
            raise InsufficientFunds(self.balances[key.person], amount)
        if sum(hold.person == key.person for hold in self.holds.values()) >= self.open_jobs:
            raise RateLimited("open jobs", 5)
        self.balances[key.person] -= amount
        placed = HoldPlaced(status="ok", id=id_, caller=key.caller, price=price, held=amount)
        self.holds[id_] = _Hold(operation, placed, key.person, time.monotonic())
        return placed

    def _repeated(self, operation, id_, key):
        hold = self.holds.get(id_) or self.resolved[id_][1]
        compared = ("request_digest",) if operation.idempotency_key else ("model", "prompt_tokens", "max_tokens")
        if hold.person != key.person or any(getattr(hold.asked, name) != getattr(operation, name) for name in compared):
            raise IdempotencyConflict
        if id_ in self.holds:
            is_same_try = not operation.idempotency_key or hold.asked.id == operation.id
            return hold.placed if is_same_try else hold.placed.model_copy(update={"status": "exists"})
        if not operation.idempotency_key:
            raise HoldNotOpen(STATES.get(self.resolved[id_][0], "voided"))
        return hold.placed.model_copy(update={"status": "exists"})

    def _generation(self, person, key):
        return self.generations.get((person, key), 1)

    def _id_of(self, person, key):
        return uuid.uuid5(person, f"{self._generation(person, key)}:{key}")

    async def capture(self, operation):
        hold = self._open(operation)
        if isinstance(hold, Settled):
            return hold
        if operation.node not in self.nodes:
            raise NotFound("Node", operation.node)
        cost = job_cost(hold.placed.price, hold.placed.held, operation.outcome, operation.prompt_tokens, operation.completion_tokens)
        return self._resolve("capture", hold, operation, cost)

    async def void(self, operation):
        hold = self._open(operation)
        if isinstance(hold, Settled):
            return hold
        return self._resolve(RETRYABLE if operation.retryable else "void", hold, operation, 0)

    def _resolve(self, how, hold, operation, cost):
        del self.holds[operation.id]
        self.balances[hold.person] += hold.placed.held - cost
        self.resolved[operation.id] = (how, hold, operation, cost)
        return Settled(status="ok", cost=cost)

    def _open(self, operation):
        """The open hold, or what the same operation was answered before."""
        if self.is_down:
            raise LedgerUnavailable
        if operation.id in self.holds:
            return self.holds[operation.id]
        if operation.id not in self.resolved:
            raise HoldNotOpen("unknown")
        how, _, before, cost = self.resolved[operation.id]
        if isinstance(operation, Void) and how != "capture":
            return Settled(status="exists", cost=0)
        if isinstance(operation, Capture) and how == "capture" and before == operation:
            return Settled(status="exists", cost=cost)
        raise HoldNotOpen(STATES.get(how, "voided"))

    async def sign_receipt(self, operation):
        if self.is_down:
            raise LedgerUnavailable
        if operation.id in self.holds:
            raise JobNotSettled
        if operation.id not in self.resolved:
            raise NotFound("Job", str(operation.id))
        how, hold, captured, cost = self.resolved[operation.id]
        said = {"job": text_of("job", operation.id), "sub": hold.placed.caller.user, "aud": "receipt", "text_sha256": operation.text_sha256}
        outcome = captured.outcome if how == "capture" else STATES.get(how, "voided")
        return jwt.encode(
            said | {"cost": credits_text(cost), "outcome": outcome}, self.signing_key, "EdDSA", {"typ": "gfe-receipt+jwt", "kid": "fake"}
        )

    def expire(self, grace_s=600):
        """Release the holds whose time, and `grace_s` after it, is over."""
        now = time.monotonic()
        for hold in [hold for hold in self.holds.values() if now - hold.at > hold.asked.ttl_s + grace_s]:
            self._resolve("expire", hold, Void(id=hold.placed.id, reason="expired"), 0)

    async def find_holds(self, older_than_s, limit=200):
        if self.is_down:
            raise LedgerUnavailable
        now = time.monotonic()
        old = sorted((hold.at, id_) for id_, hold in self.holds.items() if now - hold.at >= older_than_s)
        return tuple(OpenHold(id=id_, age_s=int(now - at)) for at, id_ in old[:limit])
