"""Simulated connections. Whatever two processes say to each other goes through a channel: in order, after a while, or not at all.

HTTP runs on it as it is (aiohttp on both sides, over `_Transport`); PostgreSQL's driver, Ray's actor calls and the consumers' HTTP use the
channels themselves. Three things go wrong: a direction is cut (what is sent arrives when it is healed, as TCP does), a channel breaks, and
a message is lost, which breaks its channel too.
"""

import asyncio
import contextvars
from collections import deque

import aiohttp

from tests.simulation.loop import PROCESS

EOF, RESET = object(), object()
NOWHERE = contextvars.Context()  # the kernel's and the wires' own


class End:
    """One process's side of a channel. `receive` and `lost` are called in its process; `lost` once, with None for a good end."""

    def __init__(self, network, process):
        self.network, self.process = network, process
        self.peer: End
        self.receive = self.lost = lambda _: None
        self.is_closed = False
        self._coming = deque()  # (when, item)
        self._last_at = 0.0
        self._timer = None

    def send(self, item):
        if self.is_closed:
            return
        if item is not EOF and self.network.loses(self.process.name, self.peer.process.name):
            self.network.note(f"lost: {self.process} -> {self.peer.process}")
            self.break_off()
            return
        self.peer.put(item)

    def close(self):
        """Say that nothing follows; hear nothing any more."""
        if not self.is_closed:
            self.is_closed = True
            self.network.channels.pop(self, None)
            self.peer.put(EOF)

    def break_off(self):
        """Both sides lose it; what is under way is lost too."""
        for end in (self, self.peer):
            end._coming.clear()
            end.put(RESET)

    def put(self, item):
        if self.is_closed:
            return
        loop = self.network.loop
        self._last_at = max(self._last_at, loop.time() + self.network.delay())
        self._coming.append((self._last_at, item))
        if self._timer is None:
            self._timer = loop.call_at(self._last_at, self.pump, context=NOWHERE)

    def pump(self):
        """Hand over what has arrived, unless the way is cut: then it waits until that is healed."""
        self._timer = None
        loop = self.network.loop
        while self._coming and not self.network.is_cut(self.peer.process.name, self.process.name):
            at, item = self._coming[0]
            if at > loop.time():
                self._timer = loop.call_at(at, self.pump, context=NOWHERE)
                return
            self._coming.popleft()
            self.process.call_soon(self._hand, item)

    def _hand(self, item):
        if self.is_closed:
            return
        if item is EOF or item is RESET:
            self.is_closed = True
            self.network.channels.pop(self, None)
            self.lost(None if item is EOF else ConnectionResetError("the connection broke"))
        else:
            self.receive(item)


class Network:
    """Who listens where, what is cut, what gets lost. `note` writes to the trace."""

    def __init__(self, loop, rng, note):
        self.loop, self.rng, self.note = loop, rng, note
        self.listeners = {}  # host -> (process, accept)
        self.black_holes = set()  # hosts that are gone without a word
        self.channels = {}  # open ends, in the order of their making
        self.slowness_s = 0.0
        self._cuts = {}
        self._losing = set()
        self._healed = asyncio.Event()

    # --- faults ----------------------------------------------------------------------------------------------------------------------

    def cut(self, source, target):
        self._cuts[source, target] = self._cuts.get((source, target), 0) + 1

    def heal(self, source, target):
        """Each cut is healed once; two that overlap end with the later one."""
        self._cuts[source, target] -= 1
        if not self._cuts[source, target]:
            del self._cuts[source, target]
            self._healed.set()
            self._healed = asyncio.Event()
            for end in list(self.channels):
                if end._timer is None:
                    end.pump()

    def is_cut(self, source, target):
        return bool(self._cuts) and ((source, target) in self._cuts or (source, "*") in self._cuts or ("*", target) in self._cuts)

    def lose_next(self, source, target):
        self._losing.add((source, target))

    def loses(self, source, target):
        if (source, target) in self._losing:
            self._losing.discard((source, target))
            return True
        return False

    def lose_nothing(self):
        self._losing.clear()

    def delay(self):
        return self.rng.expovariate(1 / (0.001 + self.slowness_s))

    def between(self, one, other):
        """The open connections of two processes, oldest first."""
        return [end for end in self.channels if end.process.name == one and end.peer.process.name == other]

    def died(self, process, *, is_silent):
        """A process ended: its kernel says so to everybody, unless the machine went with it."""
        for host, (listening, _) in list(self.listeners.items()):
            if listening is process:
                del self.listeners[host]
                if is_silent:
                    self.black_holes.add(host)
        for end in [end for end in self.channels if end.process is process]:
            if not is_silent:
                if self.rng.random() < 0.5:
                    end.peer._coming.clear()
                end.peer.put(RESET)
                del self.channels[end]

    def listen(self, host, process, accept):
        """Take connections; `accept` is given the listener's end, in its process."""
        self.black_holes.discard(host)
        self.listeners[host] = (process, accept)
        for end in list(self.channels):
            if end.process.is_dead and end.process.name == process.name:
                end.peer.put(RESET)  # a machine that came back knows nothing of old connections
                del self.channels[end]

    # --- connections -----------------------------------------------------------------------------------------------------------------

    async def open(self, host, *, me=None):
        """Connect to a host.

        Raises:
            ConnectionRefusedError: Nobody listens there.
        """
        me = me or PROCESS.get()
        assert me is not None, "whoever connects is a process"
        while True:
            await asyncio.sleep(self.delay())
            while self.is_cut(me.name, host) or self.is_cut(host, me.name):
                await self._healed.wait()
            if host not in self.black_holes:
                break
            await asyncio.sleep(1.0)
        if host not in self.listeners:
            raise ConnectionRefusedError(f"nobody listens at {host}")
        process, accept = self.listeners[host]
        mine, its = End(self, me), End(self, process)
        mine.peer, its.peer = its, mine
        self.channels |= {mine: None, its: None}
        process.call_soon(accept, its)
        return mine


class _Transport(asyncio.Transport):
    """What aiohttp sees of a channel. Bytes may come in other pieces than they were written."""

    def __init__(self, end, protocol):
        super().__init__({"peername": (end.peer.process.name, 1), "sockname": (end.process.name, 1)})
        self._end, self._protocol = end, protocol
        self._is_paused = False
        self._kept = []
        self._has_lost = False
        end.receive, end.lost = self._receive, self._lost

    def _receive(self, data):
        if self._is_paused:
            self._kept.append(data)
            return
        rng = self._end.network.rng
        if len(data) > 1 and rng.random() < 0.05:
            at = rng.randrange(1, len(data))
            self._protocol.data_received(data[:at])
            data = data[at:]
        if not self._has_lost:
            self._protocol.data_received(data)

    def _lost(self, error):
        if self._has_lost:
            return
        self._has_lost = True
        if error is None:
            self._protocol.eof_received()
        self._protocol.connection_lost(error)

    def _closed(self):
        if not self._has_lost:
            self._has_lost = True
            self._protocol.connection_lost(None)

    def write(self, data):
        if data:
            self._end.send(bytes(data))

    def writelines(self, pieces):
        self.write(b"".join(pieces))

    def can_write_eof(self):
        return False

    def close(self):
        if not self._has_lost:
            self._end.close()
            self._end.process.call_soon(self._closed)

    def abort(self):
        self.close()

    def is_closing(self):
        return self._end.is_closed

    def pause_reading(self):
        self._is_paused = True

    def resume_reading(self):
        self._is_paused = False
        while self._kept and not self._is_paused:
            self._receive(self._kept.pop(0))

    def get_write_buffer_size(self):
        return 0

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def get_protocol(self):
        return self._protocol

    def set_protocol(self, protocol):
        self._protocol = protocol


class Connector(aiohttp.BaseConnector):
    """Stands where aiohttp's connectors for TCP and Unix sockets do."""

    def __init__(self, *, path=None, limit=100, keepalive_timeout=15.0):
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout)

    async def _create_connection(self, req, traces, timeout):
        try:
            async with asyncio.timeout(timeout.sock_connect):
                end = await self._loop.network.open(req.url.host)
        except TimeoutError:
            raise
        except OSError as refused:
            raise aiohttp.ClientConnectorError(req.connection_key, refused) from refused
        protocol = self._factory()
        protocol.connection_made(_Transport(end, protocol))
        return protocol


def serve_http(network, host, process, server):
    """Let an aiohttp server (`AppRunner.server`) take a host's connections."""

    def accept(end):
        protocol = server()
        protocol.connection_made(_Transport(end, protocol))

    network.listen(host, process, accept)


async def ask(end, question):
    """Send one message and wait for one answer; an exception is raised.

    Raises:
        ConnectionError: It broke before the answer came.
    """
    answered = asyncio.get_running_loop().create_future()

    def receive(answer):
        if not answered.done():
            answered.set_result(answer)

    def lost(error):
        if not answered.done():
            answered.set_exception(error or ConnectionResetError("closed"))

    end.receive, end.lost = receive, lost
    end.send(question)
    answer = await answered
    if isinstance(answer, BaseException):
        raise answer
    return answer
