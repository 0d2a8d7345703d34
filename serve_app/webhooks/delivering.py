"""The delivery loop of a replica: claims what is due, sends it, writes what became of it. Any number of replicas do so at once.

At least once: a replica that dies between sending and writing leaves a lease that runs out, and another one sends the same event again, with
the same id. Per job and endpoint in order: the next event is not due before the one before has an end.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from random import Random

import structlog

from ledger.client import text_of
from serve_app.db import DatabaseUnavailable
from serve_app.store.jobs import JobStore
from serve_app.webhooks.bodies import body_of, job_data
from serve_app.webhooks.outbox import AT_ONCE, Outbox
from serve_app.webhooks.records import GONE, TEST, Answer, Claimed
from serve_app.webhooks.schedule import next_try_s
from serve_app.webhooks.sending import ATTEMPT_LIMIT_S, Sender
from serve_app.webhooks.signing import Secrets, Signer

log = structlog.get_logger()
LOOK_S = 1.0
BREATH_S = 0.05
TIDY_S = 60.0
CLOSE_LIMIT_S = ATTEMPT_LIMIT_S + 1
NO_ENDPOINT = Answer(None, "Its endpoint is gone or disabled.")
NO_JOB = Answer(None, "Its job is not kept any more.")
RECEIVER_GONE = "The receiver answered 410: it wants no more events."


class Deliverer:
    """Delivers the outbox's events."""

    def __init__(self, outbox: Outbox, jobs: JobStore, sender: Sender, secrets: Secrets, rng: Random) -> None:
        self._outbox, self._jobs, self._sender, self._secrets, self._rng = outbox, jobs, sender, secrets, rng
        self._sending: dict[asyncio.Task[None], Claimed] = {}
        self._has_room = asyncio.Event()

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            self._has_room.clear()
            with suppress(DatabaseUnavailable):
                await self.deliver_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):  # not `wait_for`: before Python 3.12 it can lose the cancellation that ends this loop
                    await self._has_room.wait()
            await asyncio.sleep(BREATH_S)

    async def tidy_for_ever(self) -> None:
        """Give up and forget what is old, for ever; replicas that do so at once pass each other by."""
        while True:
            await asyncio.sleep(TIDY_S)
            with suppress(DatabaseUnavailable):
                await self._outbox.tidy()

    async def deliver_due(self) -> "list[asyncio.Task[None]]":
        """Claim what is due, as far as there is room, and begin to send it; answer what was begun.

        Raises:
            DatabaseUnavailable: Ours does not answer.
        """
        room = AT_ONCE - len(self._sending)
        if room <= 0:
            return []
        now_sent = self._sending.values()
        hosts, accounts = Counter(one.lane for one in now_sent), Counter(one.user for one in now_sent)
        begun = []
        for one in await self._outbox.claim(room, hosts, accounts):
            task = asyncio.create_task(self._deliver(one), name="webhook")
            self._sending[task] = one
            task.add_done_callback(self._sent)
            begun.append(task)
        return begun

    async def aclose(self) -> None:
        """Let what is on its way arrive, for a moment; the rest is another replica's when its lease runs out."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=CLOSE_LIMIT_S)
        for task in tuple(self._sending):
            task.cancel()

    def _sent(self, task: "asyncio.Task[None]") -> None:
        self._sending.pop(task, None)
        self._has_room.set()
        if not task.cancelled() and (failed := task.exception()) is not None:
            log.error("webhook_not_worked", exc_info=failed)

    async def _deliver(self, one: Claimed) -> None:
        """Send one and write what became of it; what cannot be written is sent again when its lease has run out."""
        try:
            answer = await self._attempt(one)
            if answer.status is not None and answer.is_delivered:
                await self._outbox.delivered(one.id, answer.status)
                return
            is_over = answer in {NO_ENDPOINT, NO_JOB} or answer.status == GONE
            next_s = None if is_over else next_try_s(one.attempts, one.age_s, self._rng)
            await self._outbox.failed(one, answer, next_s, RECEIVER_GONE if answer.status == GONE else None)
        except DatabaseUnavailable as silent:
            log.info("webhook_outcome_unknown", delivery=text_of("evt", one.id), reason=str(silent))

    async def _attempt(self, one: Claimed) -> Answer:
        if one.signer is None:
            return NO_ENDPOINT
        body = await self._body(one)
        return NO_JOB if body is None else await self._sender.send(one.url, self._signed(one, one.signer, body), body)

    async def _body(self, one: Claimed) -> str | None:
        """Write what is sent; None: there is nothing left to tell."""
        if one.job is None:
            data = {"webhook": text_of("wh", one.webhook) if one.webhook else None}
            return body_of(TEST, one.created_at, data)
        record = await self._jobs.find(one.job)
        return None if record is None else body_of(one.type, one.created_at, job_data(record, has_result=one.has_result))

    def _signed(self, one: Claimed, signer: Signer, body: str) -> dict[str, str]:
        return self._secrets.headers(signer, text_of("evt", one.id), body, datetime.now(UTC))
