"""Consumers: they ask over HTTP, read what comes, leave, come back, and remember all of it for the checker."""

import asyncio
import json
from dataclasses import dataclass, field

from tests.simulation.network import End
from tests.simulation.runtime import MODEL, prompt_of


@dataclass(kw_only=True)
class Exchange:
    """What came of something asked. `outcome` is None while it is open."""

    status: int | None = None
    text: str = ""
    outcome: str | None = None
    code: str | None = None
    ended_at: float | None = None
    task: asyncio.Task | None = None
    end: End | None = None
    _rest: bytes = field(default=b"", repr=False)

    @property
    def is_open(self):
        return self.outcome is None

    def close(self, outcome, now, code=None):
        if self.outcome is None:
            self.outcome, self.code, self.ended_at = outcome, code, now


@dataclass
class Asked(Exchange):
    """One request of a consumer."""

    number: int
    key: str
    words: int
    max_tokens: int
    is_stream: bool
    idempotency_key: str | None
    prompt: str
    at: float
    job: str | None = None
    is_replay: bool = False


def ask_of(number, key, words, now, *, is_stream, idempotency_key=None, max_tokens=100):
    return Asked(number, key, words, max_tokens, is_stream, idempotency_key, prompt_of(number, words), now)


def body_of(asked):
    messages = [{"role": "user", "content": asked.prompt}]
    return {"model": MODEL, "messages": messages, "max_tokens": asked.max_tokens, "stream": asked.is_stream}


@dataclass
class Reading(Exchange):
    """A consumer reads along a job that it asked for, from some event on."""

    number: int
    of: Asked
    from_seq: int
    at: float
    next_seq: int = 0


async def run(asked, network, host, me, loop):
    """Ask, and read to the end, whatever it is."""
    headers = {"authorization": f"Bearer {asked.key}", "content-type": "application/json"}
    if asked.idempotency_key:
        headers["idempotency-key"] = asked.idempotency_key
    request = ("POST", "/v1/chat/completions", headers, json.dumps(body_of(asked)).encode())
    await _call(asked, request, _take, network, host, me, loop)


async def read(reading, network, host, me, loop):
    """Read a job along to its end."""
    target = f"/api/computing/jobs/{reading.of.job}/stream/?from={reading.from_seq}"
    request = ("GET", target, {"authorization": f"Bearer {reading.of.key}"}, b"")
    await _call(reading, request, _take_reading, network, host, me, loop)


async def _call(call, request, take, network, host, me, loop):
    done = loop.create_future()

    def receive(message):
        take(call, message, loop.time())
        if not message.get("more_body", True) and not done.done():
            done.set_result(None)

    def lost(error):
        if not done.done():
            done.set_result(error)

    try:
        call.end = await network.open(host, me=me)
    except OSError:
        call.close("unreachable", loop.time())
        return
    call.end.receive, call.end.lost = receive, lost
    call.end.send(request)
    await done
    call.close("broken", loop.time())


def leave(call, now):
    """Close the connection before the end."""
    call.close("left", now)
    if call.end:
        call.end.close()
    if call.task:
        call.task.cancel()


def _take_reading(reading, message, now):
    if message["type"] == "http.response.start":
        reading.status = message["status"]
        return
    reading._rest += message.get("body", b"")
    if reading.status != 200:
        if not message["more_body"]:
            reading.close("refused", now, json.loads(reading._rest)["code"])
        return
    *events, reading._rest = reading._rest.split(b"\n\n")
    for event in events:
        data = event.rpartition(b"data: ")[2]
        if event.startswith(b"id: "):
            _take_event_read(reading, json.loads(data), now)


def _take_event_read(reading, said, now):
    match said["event"]:
        case "text":
            reading.text += said["content"]
            reading.next_seq = said["seq"] + 1
        case "end":
            reading.close(said["status"], now)
        case "error":
            reading.close("failed", now, said["code"])


def _take(asked, message, now):
    if message["type"] == "http.response.start":
        asked.status = message["status"]
        headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        asked.job = headers.get("x-gfe-job", asked.job)
        asked.is_replay = "idempotent-replayed" in headers
        return
    asked._rest += message.get("body", b"")
    if asked.is_stream and asked.status == 200:
        *events, asked._rest = asked._rest.split(b"\n\n")
        for event in events:
            _take_event(asked, event, now)
    elif not message.get("more_body", False):
        _take_whole(asked, json.loads(asked._rest), now)


def _take_event(asked, event, now):
    if not event.startswith(b"data: "):
        return
    if event == b"data: [DONE]":
        asked.close("done", now)
        return
    said = json.loads(event.removeprefix(b"data: "))
    if "error" in said:
        asked.close("failed", now, said["error"]["code"] or said["error"]["message"])
        return
    for choice in said["choices"]:
        asked.text += choice["delta"].get("content", "")


def _take_whole(asked, said, now):
    if asked.status == 200:
        asked.text = said["choices"][0]["message"]["content"]
        asked.close("done", now)
    else:
        asked.close("failed", now, said["error"]["code"])
