"""What must hold, whatever breaks: after every step, and when everything is healed and time has gone on."""

import json
import re
from collections import Counter

from cluster.limits import LIMITS
from ledger.client import uuid_of_job
from serve_app.store.records import JobState
from tests.simulation.database import ENDED
from tests.simulation.runtime import SERIAL_DIGITS

WORD = re.compile(r"(\d+)\.(\d+)")
KEPT_IN_VIEW = 64  # generations, the newest: older ones have ended
AFTER_THE_END = {"owed", "settled_at", "cost"}  # all that may change of an ended job


def words_in(text):
    """Read a text as (number, serial) per word; None: it is no beginning of an answer of ours."""
    found = [(int(n), int(serial)) for n, serial in WORD.findall(text)]
    return found if " ".join(f"{n}.{serial:0{SERIAL_DIGITS}}" for n, serial in found) == text else None


class Checker:
    """Looks at a world. What it finds wrong is told to `world.defect`."""

    def __init__(self, world):
        self.world = world
        world.table.watch = self._row_changes
        self._looked = 0

    # --- at once ---------------------------------------------------------------------------------------------------------------------

    def _row_changes(self, row, changes):
        changed = {name for name, value in changes.items() if getattr(row, name) != value}
        if row.state >= ENDED and changed - AFTER_THE_END:
            self.world.defect(f"an ended job changed: {row.id} {sorted(changed)}")
        if "driver" in changed and row.lease_until > self.world.loop.time():
            self.world.defect(f"a job was taken from a driver whose lease is not over: {row.id}")

    def watch_worker(self, node, worker):
        """See each admission: no slot is given twice."""
        admit = worker.admit

        def watched(attempt):
            running = admit(attempt)
            if worker._running > worker._node.slots:
                self.world.defect(f"a slot was given twice: {node.name} runs {worker._running} of {worker._node.slots}")
            return running

        worker.admit = watched

    def watch_dispatcher(self, dispatcher):
        """See each grant: with those that are under way, a node is never given more than its free slots."""
        granted = {}  # node -> (when the ticket runs out, what the node had admitted when it was given)
        grant, drop = dispatcher._grant, dispatcher._tickets.drop

        def dropped(node):
            granted.pop(node, None)  # it is gone, or began anew
            drop(node)

        def watched(wait, seat, now):
            node = dispatcher._nodes[seat.id][1]
            under_way = [ticket for ticket in granted.get(node.id, ()) if ticket[0] > now and ticket[1] <= node.admitted]
            used = node.admitted - under_way[0][1] if under_way else 0
            if node.running + max(0, len(under_way) - used) >= node.slots:
                self.world.defect(f"a slot was granted twice: {node.id} runs {node.running} of {node.slots}, {len(under_way)} tickets")
            if dispatcher._owner.get(wait.job) in dispatcher._replicas:
                granted[node.id] = [*under_way[used:], (now + LIMITS.ticket_s, node.admitted)]
            grant(wait, seat, now)

        dispatcher._grant, dispatcher._tickets.drop = watched, dropped

    # --- after each step -------------------------------------------------------------------------------------------------------------

    def after_step(self):
        world = self.world
        for said in world.loop.unhandled:
            if said.get("task") is None and said.get("future") is None:
                world.defect(f"nobody took an error: {said.get('message')} {said.get('exception')!r}")
        self._books()
        for node in world.nodes:
            if node.runtime.most_in_flight > node.slots:
                world.defect(f"more in flight than slots: {node.name} {node.runtime.most_in_flight} of {node.slots}")
            if node.is_up and node.worker and not 0 <= node.worker._running <= node.slots:
                world.defect(f"slots do not add up: {node.name} {node.worker._running} of {node.slots}")
        going = Counter((one.node, one.job) for one in world.generations.all[-KEPT_IN_VIEW:] if one.ended_at is None)
        if twice := [who for who, count in going.items() if count > 1]:
            world.defect(f"a node runs two attempts of one job: {twice}")
        for asked in world.asked:
            if asked.is_open or asked.ended_at >= self._looked:
                self._text_is_true(asked)
        for reading in world.readings:
            if reading.is_open or reading.ended_at >= self._looked:
                self._reading_is_true(reading)
        self._looked = world.loop.time()

    def _books(self):
        ledger = self.world.ledger
        held = sum(hold.placed.held for hold in ledger.holds.values())
        if sum(ledger.balances.values()) + held + sum(ledger.earned.values()) + ledger.fees - ledger.goodwill != ledger.put_in:
            self.world.defect("the books do not add up")
        if min(ledger.balances.values()) < 0:
            self.world.defect("somebody's balance is below zero")

    def _text_is_true(self, asked):
        words = words_in(asked.text)
        if words is None or [n for n, _ in words] != list(range(len(words))):
            self.world.defect(f"a text with a gap or a repeat: #{asked.number} {asked.text!r}")
            return
        serials = [serial for _, serial in words]
        if serials != sorted(serials):
            self.world.defect(f"an older attempt spoke after a newer one: #{asked.number} {asked.text!r}")
        generations = self.world.generations.all
        if any(generations[serial].prompt != asked.prompt for serial in set(serials)):
            self.world.defect(f"somebody else's text: #{asked.number} {asked.text!r}")
        whole = min(asked.words, asked.max_tokens)
        # What is written again at a seam counts toward the limit where nobody here can count tokens.
        is_cut_short = len(set(serials)) > 1 and asked.words >= asked.max_tokens and len(words) == whole - 1
        if asked.outcome == "done" and len(words) != whole and not is_cut_short:
            self.world.defect(f"a success that is not whole: #{asked.number} {len(words)} of {asked.words} words")

    def _reading_is_true(self, reading):
        """From wherever it began: no gap, no repeat; from the beginning: what the consumer's own connection told."""
        text = reading.text.removeprefix(" ") if reading.from_seq else reading.text
        words = words_in(text)
        first = words[0][0] if words else 0
        if words is None or [n for n, _ in words] != list(range(first, first + len(words))) or (reading.from_seq == 0 and first):
            self.world.defect(f"read with a gap or a repeat: reading {reading.number} from {reading.from_seq} {reading.text!r}")

    # --- at the end ------------------------------------------------------------------------------------------------------------------

    def at_end(self):
        """Demand that everything ended, and that rows, books and what was delivered tell the same."""
        world = self.world
        self.after_step()
        self._errors_are_taken()
        if not world.is_quiet():
            for line in self._restless():
                world.defect(f"it never ends: {line}")
        for generation in world.generations.all:
            if generation.ended_at is None:
                world.defect(f"a generation goes on for nobody: {generation}")
        for id_, resolved in world.ledger.resolved.items():
            self._resolved(id_, *resolved)
        for row in world.table.rows.values():
            if row.id not in world.ledger.resolved and row.id not in world.ledger.holds:
                world.defect(f"a job without a hold: {row.id}")
        for asked in world.asked:
            self._told(asked)
        for reading in world.readings:
            self._read(reading)
        self._once_per_key()

    def _errors_are_taken(self):
        """No task of ours ended with an error that nobody looked at."""
        for task in self.world.loop.tasks:
            # aiohttp's own task of a connection that is lost before its first step ends so, and says nothing on it.
            if task.done() and not task.cancelled() and task._log_traceback and task.get_coro().__qualname__ != "RequestHandler.start":
                self.world.defect(f"nobody took an error: {task.get_coro().__qualname__} {task.exception()!r}")

    def _restless(self):
        world = self.world
        yield from (f"hold {id_}" for id_ in world.ledger.holds)
        yield from (f"request #{asked.number}" for asked in world.asked if asked.is_open)
        for row in world.table.rows.values():
            if row.state < ENDED or row.owed:
                yield f"job {row.id}: state {row.state}, owed {row.owed}, driver {row.driver}"
        for node in world.nodes:
            if not (node.is_up and node.worker and node.worker._running == 0):
                yield f"{node.name}: up {node.is_up}, running {node.worker and node.worker._running}"

    def _resolved(self, id_, how, hold, operation, cost):
        row = self.world.table.rows.get(id_)
        if row is None:
            if how == "capture":
                self.world.defect(f"charged without a job: {id_}")
            return
        if row.state < ENDED or row.owed:
            return  # told already: it never ends
        if row.cost != cost:
            self.world.defect(f"the row says {row.cost}, the books say {cost}: {id_} {how} {row.error}")
        if cost > hold.placed.held:
            self.world.defect(f"charged more than held: {id_}")
        if how == "capture":
            self._captured(row, operation)
        elif row.state == JobState.SUCCEEDED and how != "expire":
            self.world.defect(f"a success that nobody is paid for: {id_} {how}")
        elif row.is_incomplete and row.result and how != "expire" and not operation.served:
            self.world.defect(f"a beginning that nobody is paid for: {id_} {how} {row.error}")

    def _captured(self, row, capture):
        words = words_in(row.result or "")
        if not words:
            self.world.defect(f"charged though nothing was delivered: {row.id} {row.result!r}")
            return
        generations = self.world.generations.all
        served = Counter((generations[serial].node, generations[serial].attempt) for _, serial in words)
        for share in capture.shares:
            if served.pop((share.node, share.attempt), 0) != share.tokens:
                self.world.defect(
                    f"a share of {share.tokens} tokens for {share.node}/{share.attempt}, served otherwise: {row.id} {row.result}"
                )
        if served.keys() - {(capture.node, capture.attempt)}:
            self.world.defect(f"paid to {capture.node}/{capture.attempt}, served by {dict(served)}: {row.id}")
        if capture.attempt != row.attempt and not capture.shares:
            self.world.defect(f"paid for attempt {capture.attempt}, the last one is {row.attempt}: {row.id}")
        most = len(words) if capture.counted_by == "platform" or capture.outcome != "succeeded" else hold_limit(row)
        if capture.completion_tokens > most:
            self.world.defect(f"charged for {capture.completion_tokens} tokens, delivered {len(words)}: {row.id}")

    def _told(self, asked):
        """What a consumer saw is what the platform keeps."""
        if asked.job is None:
            return
        row = self.world.table.rows.get(uuid_of_job(asked.job))
        if row is None:
            self.world.defect(f"a job that is not kept: #{asked.number}")
        elif row.state >= ENDED and asked.outcome == "done" and (row.state != JobState.SUCCEEDED or row.result != asked.text):
            self.world.defect(f"told success, kept {JobState(row.state).name} {row.error}: #{asked.number} {row.id}")
        elif asked.is_replay:
            return  # who reads along may be ahead of the driver by an event when a node is lost; then it is told that the answer broke off
        elif row.state >= ENDED and not (row.result or "").startswith(asked.text) and not self._was_given_up(row):
            self.world.defect(f"delivered other than kept: #{asked.number} {asked.text!r}, kept {row.result!r}")

    def _read(self, reading):
        """Who read to the end has read what is kept, from where it began."""
        row = self.world.table.rows.get(uuid_of_job(reading.of.job))
        if reading.outcome == "COMPLETED" and not (row.result.endswith(reading.text) if reading.from_seq else row.result == reading.text):
            self.world.defect(f"read other than kept: reading {reading.number} {reading.text!r}, kept {row.result!r}")
        if reading.outcome == "COMPLETED" and not reading.text and reading.from_seq == 0:
            self.world.defect(f"nothing was read: reading {reading.number}")

    @staticmethod
    def _was_given_up(row):
        """Whether the job was taken over and then ended for nothing: what its lost driver had told is not known."""
        return row.state in {JobState.FAILED, JobState.CANCELED} and row.cost == 0 and row.result is None

    def _once_per_key(self):
        captures = Counter(
            (hold.person, hold.asked.idempotency_key)
            for how, hold, _, _ in self.world.ledger.resolved.values()
            if how == "capture" and hold.asked.idempotency_key
        )
        for (_, key), count in captures.items():
            if count > 1:
                self.world.defect(f"one Idempotency-Key was charged {count} times: {key}")


def hold_limit(row):
    """The most tokens that a runtime's own count may claim of a job."""
    return json.loads(row.request)["max_tokens"]
