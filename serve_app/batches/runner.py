"""Runs batches: claims one by a lease, reads its lines, keeps a few of them under way, ends it. A replica that is lost is followed by another one.

States as OpenAI has them: validating, in_progress, finalizing, then completed, failed, expired or (by cancelling) cancelled.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from ledger.client import LedgerError, NotAuthenticated
from serve_app.batches.line_run import BatchRun, PutOff, follow_line, run_line
from serve_app.batches.lines import WrongLine, not_run, read_line
from serve_app.batches.sealing import KEY_FILE, SealBroken, unseal
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.store.batches import LEASE_S, Batch, BatchLine, BatchStore, LineEnd
from serve_app.store.files import FileStore

log = structlog.get_logger()
LOOK_S = 2.0
RENEW_S = 2.0
AGAIN_S = 1.0  # after the database did not answer
LONGEST_PAUSE_S = 30.0  # before a line that found no room is tried again
BATCHES_AT_ONCE = 8  # of one replica; their lines share its places
ERRORS_TOLD = 50  # lines that could not be read, named in the batch itself; all are in its error file
SWEEP_S = 300.0
EXPIRED = "This request could not be executed before the completion window expired."
OUR_FAULT = {"code": "internal_error", "line": None, "message": "Something went wrong on our side.", "param": None}

Clock = Callable[[], datetime]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Lease:
    """A runner's claim on a batch, and why it begins no more lines: `lost`, `cancelling`, `expired` or `failed`."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.reason = ""
        self.detail: dict[str, Any] | None = None

    def stop(self, reason: str, detail: dict[str, Any] | None = None) -> None:
        """Begin no more lines; a lost lease outweighs every other reason."""
        if not self.reason or reason == "lost":
            self.reason, self.detail = reason, detail
        self.told.set()

    async def pause(self, seconds: float) -> None:
        """Wait, unless it is stopped."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.told.wait(), seconds)


class BatchRunner:
    """Runs the batches that this replica claims. `look_s`: how often it looks for one; `now` tells the time (UTC)."""

    def __init__(
        self,
        context: ServeContext,
        batches: BatchStore,
        files: FileStore,
        *,
        look_s: float = LOOK_S,
        renew_s: float = RENEW_S,
        now: Clock = _utc_now,
    ) -> None:
        self.name = f"{context.writer.driver}-{uuid.uuid4().hex[:8]}"
        self._context, self._batches, self._files = context, batches, files
        self._look_s, self._renew_s, self._now = look_s, renew_s, now
        self._most = context.settings.batch_lines_in_flight
        self._places = asyncio.Semaphore(self._most)
        self._running: dict[uuid.UUID, asyncio.Task[None]] = {}
        self._swept_at = float("-inf")

    async def run(self) -> None:
        """Look for batches and run them, for ever; when canceled, let them go to whoever comes next."""
        try:
            while True:
                with suppress(DatabaseUnavailable):
                    await self._look()
                    await self._sweep()
                await asyncio.sleep(self._look_s)
        finally:
            running = list(self._running.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            with suppress(DatabaseUnavailable):
                await self._batches.release(self.name)

    async def _look(self) -> None:
        while len(self._running) < BATCHES_AT_ONCE:
            batch = await self._batches.claim(self.name, list(self._running))
            if batch is None:
                return
            log.info("batch_claimed", batch=str(batch.id), state=batch.state)
            task = self._running[batch.id] = asyncio.create_task(self._kept(batch))
            task.add_done_callback(partial(self._forget, batch.id))

    def _forget(self, id_: uuid.UUID, _: "asyncio.Task[None]") -> None:
        self._running.pop(id_, None)

    async def _sweep(self) -> None:
        if time.monotonic() - self._swept_at < SWEEP_S:
            return
        while await self._files.sweep(self._now()):
            pass
        while await self._batches.sweep(self._now()):
            pass
        self._swept_at = time.monotonic()

    # --- one batch --------------------------------------------------------------------------------------------------------------------

    async def _kept(self, batch: Batch) -> None:
        """Run a batch while its lease is renewed. What a defect ends here is claimed again, until its time is over."""
        lease = Lease()
        keeping = asyncio.create_task(self._keep(batch, lease))
        try:
            await self._carry(batch, lease)
        except Exception:
            log.exception("batch_run_failed", batch=str(batch.id))
            if self._now() >= batch.expires_at:
                await self._finish(batch, lease, "failed", [OUR_FAULT])
            else:
                await asyncio.sleep(LEASE_S)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _keep(self, batch: Batch, lease: Lease) -> None:
        """Renew the lease, and hear what has become of the batch."""
        renewed_at = time.monotonic()
        while lease.reason != "lost":
            if self._now() >= batch.expires_at:
                lease.stop("expired")
            try:
                state = await self._batches.renew(batch.id, self.name)
            except DatabaseUnavailable:
                if time.monotonic() - renewed_at > LEASE_S:
                    lease.stop("lost")
            else:
                renewed_at = time.monotonic()
                if state is None:
                    lease.stop("lost")
                elif state == "cancelling":
                    lease.stop("cancelling")
            await asyncio.sleep(self._renew_s)

    async def _carry(self, batch: Batch, lease: Lease) -> None:
        """Bring a batch from where it is to its end."""
        if batch.state == "cancelling":
            lease.stop("cancelling")
        elif self._now() >= batch.expires_at:
            lease.stop("expired")
        if batch.state == "validating":
            validated = await self._again(lease, partial(self._validate, batch, lease))
            batch = validated or batch
        if batch.state == "in_progress" and not lease.reason:
            await self._run_lines(batch, lease)
        await self._end(batch, lease)

    async def _end(self, batch: Batch, lease: Lease) -> None:
        """Write how the batch ended; what was begun has an end before it has."""
        if lease.reason and lease.reason != "lost":
            await self._again(lease, partial(self._end_begun, batch, lease))
        match lease.reason:
            case "lost":
                log.warning("batch_lost", batch=str(batch.id))
            case "cancelling":
                await self._finish(batch, lease, "cancelled")
            case "failed":
                await self._finish(batch, lease, "failed", [*batch.errors, lease.detail] if lease.detail else None)
            case "expired":
                await self._again(lease, partial(self._expire_rest, batch))
                await self._finish(batch, lease, "expired")
            case _:
                moved = await self._again(lease, partial(self._batches.move, batch.id, self.name, "finalizing", self._now()))
                await self._finish(batch, lease, "completed" if moved else "cancelled")  # who cancels at the last moment is answered so

    async def _finish(self, batch: Batch, lease: Lease, state: str, errors: list[Any] | None = None) -> None:
        text = json.dumps(errors) if errors else None
        if await self._again(lease, partial(self._batches.finish, batch.id, self.name, state, self._now(), text)):
            log.info("batch_ended", batch=str(batch.id), state=state)

    async def _again(self, lease: Lease, work: Callable[[], Any]) -> Any:
        """Do something until the database takes it, as long as the batch is ours; None: it is not."""
        while lease.reason != "lost":
            try:
                return await work()
            except DatabaseUnavailable:
                await asyncio.sleep(AGAIN_S)
        return None

    # --- before its lines ---------------------------------------------------------------------------------------------------------------

    async def _validate(self, batch: Batch, lease: Lease) -> Batch | None:
        """Read the lines: write down what is to be run, and what cannot be."""
        total, errors, seen = 0, list[dict[str, Any]](), set[str]()
        is_readable = False
        async for block in self._files.blocks(batch.input_file):
            lines, wrong = list[tuple[int, str | None]](), list[LineEnd]()
            for number, raw in block:
                if not raw.strip():
                    continue
                total += 1
                custom_id, error = _checked(raw, batch.endpoint, seen)
                lines.append((number, custom_id))
                if error is None:
                    is_readable = True
                    continue
                errors.append({"code": error.code, "line": number, "message": error.says, "param": None})
                wrong.append(not_run(batch.id, number, custom_id, error.code, error.says))
            await self._batches.add_lines(batch.id, lines)
            if wrong:
                await self._batches.end_lines(batch.id, self.name, wrong)
        if not is_readable:
            lease.stop("failed")
            errors = errors or [{"code": "empty_file", "line": None, "message": "The input file has no lines.", "param": None}]
        told = json.dumps(errors[:ERRORS_TOLD]) if errors else None
        state = "in_progress" if is_readable else "validating"
        return await self._batches.move(batch.id, self.name, state, self._now(), errors=told, total=total)

    # --- its lines --------------------------------------------------------------------------------------------------------------------

    async def _run_lines(self, batch: Batch, lease: Lease) -> None:
        """Run what has not ended, in order, some at a time; then what could not be written, again."""
        try:
            assert batch.credential is not None, "a batch keeps its credential until it ends"
            run = BatchRun(self._context, batch, unseal(self._context.settings.secret(KEY_FILE), batch.credential, batch.id))
        except SealBroken as broken:
            lease.stop("failed", {"code": "credential_lost", "line": None, "message": str(broken), "param": None})
            return
        under_way: set[asyncio.Task[None]] = set()
        try:
            while not lease.reason:
                begun = 0
                async for line in self._open_lines(batch, lease):
                    while len(under_way) >= self._most:  # also those that wait for another try: what finds no room is not to pile up
                        await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    await self._places.acquire()
                    if lease.reason:
                        self._places.release()
                        break
                    begun += 1
                    task = asyncio.create_task(self._one(run, line, lease))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                await _all_of(under_way)
                if not begun:
                    return
            await _all_of(under_way)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _open_lines(self, batch: Batch, lease: Lease) -> AsyncGenerator[BatchLine, None]:
        after = 0
        while not lease.reason and (lines := await self._again(lease, partial(self._batches.next_lines, batch, after))):
            for line in lines:
                yield line
                after = line.number

    async def _one(self, run: BatchRun, line: BatchLine, lease: Lease) -> None:
        """Run one line, in a place that is ours already; without it while it waits for another try."""
        batch = run.batch
        note = partial(self._batches.note_job, batch.id, self.name, line.number)
        tries = 0
        while True:
            try:
                end = await run_line(run, line, note, tries)
            except NotAuthenticated as refused:
                lease.stop("failed", _refused_credential(refused))
                return
            except PutOff as later:
                pause_s = min(LONGEST_PAUSE_S, later.seconds)
                tries = tries + 1 if later.is_replay else 0
            else:
                if not await self._again(lease, partial(self._batches.end_lines, batch.id, self.name, [end])):
                    lease.stop("lost")
                return
            finally:
                self._places.release()
            line = BatchLine(line.number, line.custom_id, None, line.content)
            await self._again(lease, partial(note, None))
            await lease.pause(pause_s)
            if lease.reason:
                return
            await self._places.acquire()

    async def _end_begun(self, batch: Batch, lease: Lease) -> None:
        """End the lines that a lost runner had begun: their jobs run by themselves, and are paid for."""
        after = 0
        while lease.reason != "lost" and (lines := await self._batches.next_lines(batch, after, has_job=True)):
            for line in lines:
                after = line.number
                if (end := await follow_line(self._context, batch, line)) is not None:
                    await self._batches.end_lines(batch.id, self.name, [end])

    async def _expire_rest(self, batch: Batch) -> None:
        """End the lines whose time is over."""
        while lines := await self._batches.next_lines(batch, 0):
            ends = [not_run(batch.id, line.number, line.custom_id, "batch_expired", EXPIRED) for line in lines]
            if not await self._batches.end_lines(batch.id, self.name, ends):
                return


async def _all_of(tasks: set["asyncio.Task[None]"]) -> None:
    if tasks:
        await asyncio.wait(set(tasks))


def _checked(raw: bytes, endpoint: str, seen: set[str]) -> tuple[str | None, WrongLine | None]:
    """Read a line's custom id, and what is wrong with the line; the first line of an id is the one that counts."""
    try:
        custom_id = read_line(raw, endpoint).custom_id
    except WrongLine as wrong:
        return None, wrong
    if custom_id in seen:
        return custom_id, WrongLine("duplicate_custom_id", "Another line before this one has the same `custom_id`.")
    seen.add(custom_id)
    return custom_id, None


def _refused_credential(refused: LedgerError) -> dict[str, Any]:
    return {"code": refused.code, "line": None, "message": f"The batch's key is not good any more: {refused}", "param": None}
