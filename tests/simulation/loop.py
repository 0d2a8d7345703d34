"""An asyncio event loop with a clock of its own: when nothing is ready, time jumps to the next timer. No threads, no sockets.

Everything runs as part of a simulated process: tasks and timers inherit it from whoever made them, so a process can be frozen or killed
without running another line of it, as SIGSTOP and SIGKILL do.
"""

import asyncio
import contextvars
import heapq
from random import Random

PROCESS: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)
JITTER_S = 0.0005  # of every timer: which of two that are due together comes first is the seed's choice
MOST_TURNS_AT_ONE_TIME = 20_000


class Standstill(AssertionError):
    """Everybody waits and no timer is set, or time does not go on."""


class Process:
    """What dies and freezes together. Its handles do not run while it is frozen, and never again when it is dead."""

    def __init__(self, loop, name):
        self.loop, self.name = loop, name
        self.is_frozen = self.is_dead = False
        self.parked = []
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    def spawn(self, coroutine):
        """Start a task in this process."""
        return self.loop.create_task(coroutine, context=self.context.copy())

    def call_soon(self, callback, *arguments):
        """Call something in this process, from wherever."""
        self.loop.call_soon(callback, *arguments, context=self.context)

    def freeze(self):
        self.is_frozen = True

    def thaw(self):
        """Go on where it stood: what came meanwhile happens now."""
        self.is_frozen = False
        if not self.is_dead:
            self.loop.unpark(self)

    def __repr__(self):
        return self.name


class VirtualLoop(asyncio.BaseEventLoop):
    """`rng` breaks ties. `network` is set by the world: whoever opens a connection finds it here."""

    def __init__(self, rng: Random):
        super().__init__()
        self._now = 1000.0
        self._rng = rng
        self._stands = 0
        self.network = None
        self.tasks = []  # all that were ever made: in an order, as `asyncio.all_tasks` is not
        self.unhandled = []
        self.set_task_factory(self._make_task)
        self.set_exception_handler(lambda _, said: self.unhandled.append(said))

    def time(self):
        return self._now

    def call_at(self, when, callback, *arguments, context=None):
        return super().call_at(when + self._rng.random() * JITTER_S, callback, *arguments, context=context)

    def run_in_executor(self, executor, function, *arguments):
        """There are no threads: it happens a moment later."""
        future = self.create_future()

        def work():
            if future.cancelled():
                return
            try:
                future.set_result(function(*arguments))
            except Exception as failed:  # noqa: BLE001 - it is the caller's
                future.set_exception(failed)

        self.call_later(0.001, work)
        return future

    def _make_task(self, loop, coroutine, **options):
        task = asyncio.Task(coroutine, loop=loop, **options)
        self.tasks.append(task)
        if len(self.tasks) > 4096:
            self.tasks = [one for one in self.tasks if not one.done() or one._log_traceback]
        return task

    def unpark(self, process):
        self._ready.extend(process.parked)
        process.parked.clear()

    def _run_once(self):
        self._forget_canceled_timers()
        if self._ready or self._stopping:
            self._stands += 1
            if self._stands > MOST_TURNS_AT_ONE_TIME:
                raise Standstill(f"time does not go on: {list(self._ready)[:5]}")
        elif self._scheduled:
            self._now, self._stands = max(self._now, self._scheduled[0].when()), 0
        else:
            raise Standstill("everybody waits for somebody else")
        while self._scheduled and self._scheduled[0].when() <= self._now:
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False
            self._ready.append(handle)
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if handle.cancelled():
                continue
            process = handle._context.get(PROCESS)
            if process is not None and (process.is_frozen or process.is_dead):
                process.parked.append(handle)
            else:
                handle._run()

    def _forget_canceled_timers(self):
        if self._timer_cancelled_count > 100 and self._timer_cancelled_count * 2 > len(self._scheduled):
            for handle in self._scheduled:
                handle._scheduled = not handle.cancelled()
            self._scheduled = [handle for handle in self._scheduled if handle._scheduled]
            heapq.heapify(self._scheduled)
            self._timer_cancelled_count = 0
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)._scheduled = False
            self._timer_cancelled_count -= 1

    def _process_events(self, event_list):
        pass

    def _write_to_self(self):
        pass
