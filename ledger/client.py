"""The ledger as other services see it: typed, asynchronous, batched. Everything they may know of the ledger is re-exported here.

Natural batching: one request is in flight, what arrives meanwhile goes into the next. Each operation has its own answer.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

import aiohttp
from yarl import URL

from ledger.amounts import credits_text, micros_of
from ledger.errors import (
    BooksUnderReview,
    BudgetExceeded,
    CredentialExpired,
    CredentialMistyped,
    CredentialRevoked,
    CredentialUnknown,
    HoldNotOpen,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidRequest,
    JobNotSettled,
    LedgerError,
    LedgerUnavailable,
    ModelNotAllowed,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    OwnNode,
    RateLimited,
)
from ledger.ids import new_uuid7, text_of, uuid_of
from ledger.internal import LedgerOverTls, client_context
from ledger.key_format import key_id
from ledger.pricing import Outcome, PriceRow, cost, to_hold
from ledger.wire import (
    ANSWERS,
    FEED,
    MAX_NODES,
    MAX_OFFERS,
    MAX_OPERATIONS,
    MAX_SEALED,
    OPERATIONS,
    AgentReceipt,
    Answer,
    AuditOffered,
    AuditReported,
    AuditSample,
    AuditTask,
    AuditTasks,
    AuditVerdict,
    Caller,
    CanaryOffer,
    CanaryReport,
    CanaryReported,
    CanaryTask,
    CanaryTasks,
    Capture,
    CountAlarm,
    CountAlarmTaken,
    EnterGuard,
    FeedEntry,
    FeedPage,
    FindHolds,
    GuardVisitor,
    HoldPlaced,
    HoldsFound,
    Introspect,
    Introspected,
    LookAtVisit,
    OpenHold,
    Operation,
    Operations,
    PlaceHold,
    Price,
    ReceiptSigned,
    Refused,
    Served,
    Settled,
    Share,
    SignReceipt,
    TakeAudits,
    TakeCanaries,
    Void,
    WhyNot,
    Wire,
)

__all__ = [
    "MAX_NODES",
    "MAX_OFFERS",
    "MAX_SEALED",
    "AgentReceipt",
    "AuditOffered",
    "AuditReported",
    "AuditSample",
    "AuditTask",
    "AuditVerdict",
    "BooksUnderReview",
    "BudgetExceeded",
    "Caller",
    "CanaryOffer",
    "CanaryReport",
    "CanaryReported",
    "CanaryTask",
    "Capture",
    "CountAlarm",
    "CountAlarmTaken",
    "CredentialExpired",
    "CredentialMistyped",
    "CredentialRevoked",
    "CredentialUnknown",
    "FeedEntry",
    "FeedPage",
    "GuardVisitor",
    "HoldNotOpen",
    "HoldPlaced",
    "IdempotencyConflict",
    "InsufficientFunds",
    "InvalidRequest",
    "JobNotSettled",
    "LedgerClient",
    "LedgerError",
    "LedgerOperations",
    "LedgerOverTls",
    "LedgerUnavailable",
    "ModelNotAllowed",
    "NotAuthenticated",
    "NotFound",
    "NotPermitted",
    "OpenHold",
    "Outcome",
    "OwnNode",
    "PlaceHold",
    "Price",
    "RateLimited",
    "Served",
    "Settled",
    "Share",
    "SignReceipt",
    "Void",
    "WhyNot",
    "check_api_key",
    "credits_text",
    "job_cost",
    "job_id",
    "job_quote",
    "micros_of",
    "new_hold_id",
    "new_uuid7",
    "text_of",
    "uuid_of",
    "uuid_of_job",
]

Answered = TypeVar("Answered", bound=Wire)
CONNECT_LIMIT_S = 1.0
TOTAL_LIMIT_S = 3.0
MAX_WAITING = MAX_OPERATIONS * 8
SOCKET_URL = "http://ledger"  # over the socket the name means nothing
OPERATIONS_URL = URL("/internal/v1/operations")
FEED_URL = URL("/internal/v1/feed")
AUDITS_URL = URL("/internal/v1/audits/")
GUARD_URL = URL("/internal/v1/guard/")

_ERRORS: dict[str, type[LedgerError]] = {
    error.code: error
    for error in (
        NotAuthenticated, CredentialExpired, CredentialMistyped, CredentialRevoked, CredentialUnknown, NotPermitted, ModelNotAllowed,
        BudgetExceeded, InsufficientFunds, RateLimited, NotFound, InvalidRequest, IdempotencyConflict, HoldNotOpen, LedgerUnavailable, BooksUnderReview, OwnNode, JobNotSettled,
    )
}  # fmt: skip


def new_hold_id() -> uuid.UUID:
    """Make the id that a job and its hold share."""
    return new_uuid7()


def job_id(value: uuid.UUID) -> str:
    """Write a job's id."""
    return text_of("job", value)


def uuid_of_job(text: str) -> uuid.UUID:
    """Read a job's id.

    Raises:
        ValueError: It is not one.
    """
    return uuid_of("job", text)


def job_cost(price: Price, held: int, outcome: Outcome, prompt_tokens: int, completion_tokens: int) -> int:
    """Tell what the ledger will charge for a job, in micro-credits: the same function, so that an answer can say it at once."""
    row = PriceRow(price.version, price.flat, price.prompt_per_million, price.completion_per_million)
    return cost(row, held, outcome, prompt_tokens, completion_tokens)


def job_quote(price: Price, prompt_tokens: int, max_tokens: int) -> int:
    """Tell the most that a job can cost, in micro-credits: what the ledger will hold for it."""
    return to_hold(PriceRow(price.version, price.flat, price.prompt_per_million, price.completion_per_million), prompt_tokens, max_tokens)


def check_api_key(text: str) -> None:
    """Check shape and checksum of an API key; its truth is the ledger's answer.

    Raises:
        CredentialUnknown: It does not look like a key of ours.
        CredentialMistyped: The checksum does not fit.
    """
    key_id(text)


def error_of(refused: Refused) -> LedgerError:
    """Turn a refusal's code back into its class; one that we do not know (a newer ledger's) is as good as no answer."""
    try:
        return _ERRORS[refused.code](**refused.fields)
    except (LookupError, TypeError):
        return LedgerUnavailable()


class LedgerOperations(Protocol):
    """What a service may ask of the ledger."""

    async def place_hold(self, operation: PlaceHold) -> HoldPlaced:
        """Reserve the most a job can cost."""

    async def capture(self, operation: Capture) -> Settled:
        """Charge for a job."""

    async def void(self, operation: Void) -> Settled:
        """Give a hold back."""

    async def introspect(self, credential: str) -> Caller:
        """Tell who a credential belongs to."""

    async def find_holds(self, older_than_s: int, limit: int = 200) -> tuple[OpenHold, ...]:
        """List this service's open holds."""

    async def sign_receipt(self, operation: SignReceipt) -> str:
        """Sign the consumer's receipt of a settled job."""


class LedgerClient:
    """Calls the ledger, over its Unix socket or TLS. `token` makes a service token for the audience `ledger-internal`."""

    def __init__(self, where: Path | LedgerOverTls, token: Callable[[], str]) -> None:
        self._where = where
        self._token = token
        self._session: aiohttp.ClientSession | None = None
        self._waiting: deque[tuple[Operation, asyncio.Future[Answer]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the session (inside the running loop).

        Raises:
            OSError: A certificate is missing.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_LIMIT_S)  # the whole is limited in `_post`
        connector: aiohttp.BaseConnector
        if isinstance(self._where, LedgerOverTls):
            base_url, connector = self._where.url, aiohttp.TCPConnector(ssl=client_context(self._where.folder))
        else:
            base_url, connector = SOCKET_URL, aiohttp.UnixConnector(path=str(self._where))
        self._session = aiohttp.ClientSession(base_url, connector=connector, timeout=timeout, trust_env=False)

    async def aclose(self) -> None:
        """Close; whoever still waits gets `LedgerUnavailable`."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        _refuse(self._waiting, None)
        self._waiting.clear()
        if self._session:
            await self._session.close()
            self._session = None

    async def place_hold(self, operation: PlaceHold) -> HoldPlaced:
        """Reserve the most a job can cost.

        Raises:
            NotAuthenticated: The consumer's credential is no good.
            NotPermitted: It lacks the scope.
            InsufficientFunds: The pockets do not hold the amount; nothing was written.
            RateLimited: Too many open jobs.
            IdempotencyConflict: The key was used with another request.
            LedgerUnavailable: Outcome unknown.
        """
        answer = await self._ask(operation)
        if not isinstance(answer, HoldPlaced):
            raise LedgerUnavailable
        return answer

    async def capture(self, operation: Capture) -> Settled:
        """Charge for a job; the same again answers `exists`.

        Raises:
            HoldNotOpen: It was resolved in another way.
            LedgerUnavailable: Outcome unknown.
        """
        return await self._settled(operation)

    async def void(self, operation: Void) -> Settled:
        """Give a hold back; the same again answers `exists`.

        Raises:
            HoldNotOpen: It was captured.
            LedgerUnavailable: Outcome unknown.
        """
        return await self._settled(operation)

    async def introspect(self, credential: str) -> Caller:
        """Tell who a credential belongs to.

        Raises:
            NotAuthenticated: Nobody's.
            LedgerUnavailable: The ledger does not answer.
        """
        answer = await self._ask(Introspect(credential=credential))
        if not isinstance(answer, Introspected):
            raise LedgerUnavailable
        return answer.caller

    async def find_holds(self, older_than_s: int, limit: int = 200) -> tuple[OpenHold, ...]:
        """List this service's open holds that are older than that.

        Raises:
            LedgerUnavailable: The ledger does not answer.
        """
        answer = await self._ask(FindHolds(older_than_s=older_than_s, limit=limit))
        if not isinstance(answer, HoldsFound):
            raise LedgerUnavailable
        return answer.holds

    async def sign_receipt(self, operation: SignReceipt) -> str:
        """Sign the consumer's receipt of a settled job; a JWT.

        Raises:
            JobNotSettled: Its hold is open.
            NotFound: The books know no such job.
            LedgerUnavailable: The ledger does not answer.
        """
        answer = await self._ask(operation)
        if not isinstance(answer, ReceiptSigned):
            raise LedgerUnavailable
        return answer.token

    async def feed(self, after: int | None, limit: int = 500) -> FeedPage:
        """Read what changed after an entry of the feed; `None`: from nothing, which answers the whole state.

        Raises:
            LedgerUnavailable: The ledger does not answer.
        """
        if self._session is None:
            raise LedgerUnavailable
        url = FEED_URL.with_query({"limit": limit} | ({} if after is None else {"after": after}))
        try:
            async with asyncio.timeout(TOTAL_LIMIT_S), self._session.get(url, headers=self._headers()) as response:
                said = await response.read()
                response.raise_for_status()
            return FEED.validate_json(said)
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as failed:
            raise LedgerUnavailable from failed

    async def offer_audit(self, sample: AuditSample) -> AuditOffered:
        """Offer an ended job to be audited; the same job again answers `exists`.

        Raises:
            NotPermitted: This service may not.
            LedgerUnavailable: Whether it is kept is unknown.
        """
        return await self._tell(AUDITS_URL / "offer", sample, AuditOffered)

    async def take_audits(self, limit: int = 1) -> tuple[AuditTask, ...]:
        """Take the most urgent tasks. Whoever does not report within ten minutes may find them taken by another.

        Raises:
            NotPermitted: This service may not.
            LedgerUnavailable: The ledger does not answer.
        """
        return (await self._tell(AUDITS_URL / "take", TakeAudits(limit=limit), AuditTasks)).tasks

    async def report_audit(self, verdict: AuditVerdict) -> AuditReported:
        """Report what an audit found; what follows for the node happens before the answer. The first verdict of a task counts.

        Raises:
            NotFound: There is no such task, or it was too old.
            NotPermitted: This service may not.
            LedgerUnavailable: Outcome unknown; report the same again.
        """
        return await self._tell(AUDITS_URL / "report", verdict, AuditReported)

    async def take_canaries(self, offers: Iterable[CanaryOffer], nodes: int) -> tuple[CanaryTask, ...]:
        """Take the canaries that are to be sent now, for so many nodes at most. What is not reported in four minutes is sent again.

        Raises:
            NotPermitted: This service may not.
            LedgerUnavailable: The ledger does not answer.
        """
        return (await self._tell(AUDITS_URL / "canary-take", TakeCanaries(offers=tuple(offers), nodes=nodes), CanaryTasks)).tasks

    async def report_canary(self, report: CanaryReport) -> CanaryReported:
        """Report what came of a canary; the first word counts.

        Raises:
            NotPermitted: This service may not.
            LedgerUnavailable: Outcome unknown; report the same again.
        """
        return await self._tell(AUDITS_URL / "canary-report", report, CanaryReported)

    async def alarm_count(self, alarm: CountAlarm) -> CountAlarmTaken:
        """Tell that a node's own counts of a job were off; the same job again answers `exists`.

        Raises:
            NotPermitted: This service may not.
            LedgerUnavailable: Outcome unknown; tell it again.
        """
        return await self._tell(AUDITS_URL / "count-alarm", alarm, CountAlarmTaken)

    async def enter_guard(self, word: str) -> GuardVisitor:
        """Tell whose pass for the dashboard guard this is. That it counts once is the guard's to see to.

        Raises:
            NotAuthenticated: It is none, or too old, or its sign-in has ended.
            NotPermitted: The sign-in is not an operator's any more, or this service is not the guard.
            LedgerUnavailable: The ledger does not answer.
        """
        return await self._tell(GUARD_URL / "enter", EnterGuard(word=word), GuardVisitor)

    async def look_at_visit(self, session: uuid.UUID) -> GuardVisitor:
        """Tell whose sign-in this is; it is open, and an operator's.

        Raises:
            NotAuthenticated: It has ended.
            NotPermitted: It is not an operator's, or this service is not the guard.
            LedgerUnavailable: The ledger does not answer.
        """
        return await self._tell(GUARD_URL / "look", LookAtVisit(session=session), GuardVisitor)

    async def _tell(self, url: URL, asked: Wire, answer: type[Answered]) -> Answered:
        """Send one message; a refusal comes back as its class."""
        if self._session is None:
            raise LedgerUnavailable
        headers = self._headers() | {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(TOTAL_LIMIT_S),
                self._session.post(url, data=asked.model_dump_json(), headers=headers) as response,
            ):
                said = await response.read()
            if response.status != 200:
                raise error_of(Refused.model_validate_json(said))
            return answer.model_validate_json(said)
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as failed:
            raise LedgerUnavailable from failed

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token()}"}

    async def _settled(self, operation: Operation) -> Settled:
        answer = await self._ask(operation)
        if not isinstance(answer, Settled):
            raise LedgerUnavailable
        return answer

    async def _ask(self, operation: Operation) -> Answer:
        """Put an operation into the next request and wait for its answer."""
        if self._session is None or len(self._waiting) >= MAX_WAITING:
            raise LedgerUnavailable
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send_all(), name="ledger client")
        answer = await future
        if isinstance(answer, Refused):
            raise error_of(answer)
        return answer

    async def _send_all(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_OPERATIONS))]
            try:
                answers = await self._post(tuple(operation for operation, _ in batch))
            except asyncio.CancelledError:
                _refuse(batch, None)
                raise
            except Exception as failed:  # noqa: BLE001 - whatever it was, the callers must hear of it
                _refuse(batch, failed)
                if isinstance(failed, OSError | TimeoutError | aiohttp.ClientConnectionError):
                    # Nobody waits longer than one limit: who waits behind a ledger that does not answer is told so now.
                    _refuse(self._waiting, failed)
                    self._waiting.clear()
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def _post(self, operations: tuple[Operation, ...]) -> tuple[Answer, ...]:
        """Send a batch; once more when the connection broke under it, as it does when the ledger was restarted: ids make that safe."""
        body = OPERATIONS.dump_json(Operations.model_construct(operations=operations))
        async with asyncio.timeout(TOTAL_LIMIT_S):
            try:
                said = await self._post_once(body)
            except aiohttp.ClientConnectorError:  # nobody listens
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError):
                said = await self._post_once(body)
        answers = ANSWERS.validate_json(said).answers
        if len(answers) != len(operations):
            raise ValueError("the ledger answered another number of operations")
        return answers

    async def _post_once(self, body: bytes) -> bytes:
        assert self._session is not None
        headers = self._headers() | {"Content-Type": "application/json"}
        async with self._session.post(OPERATIONS_URL, data=body, headers=headers) as response:
            said = await response.read()
            if response.status != 200:
                raise ValueError(f"the ledger answered {response.status}")
        return said


def _refuse(waiting: Iterable[tuple[Operation, "asyncio.Future[Answer]"]], failed: Exception | None) -> None:
    for _, future in waiting:
        if not future.done():
            unavailable = LedgerUnavailable()
            unavailable.__cause__ = failed
            future.set_exception(unavailable)
