"""The twin for programs: the same messages as server-sent events, with the credential in the header."""

import asyncio
import contextlib
import json
import socket as sockets

import pytest

from serve_app import auth
from serve_app.api import live as routes
from serve_app.live import listener as listeners
from serve_app.live.messages import message
from serve_app.live.seats import Seats
from tests.ledger.people import bearer, somebody
from tests.serve_app.dashboards import dashboard
from tests.waiting import until

PATH = "/api/computing/updates/"


class Stream:
    """An open stream. `events` are (id, event, data) in order."""

    def __init__(self, answer):
        self.answer = answer
        self.events = []
        self._blocks = self._read()

    async def _read(self):
        text = ""
        async for chunk in self.answer.aiter_text():
            *blocks, text = (text + chunk).split("\n\n")
            for block in blocks:
                fields = dict(line.split(": ", 1) for line in block.splitlines())
                yield fields.get("id"), fields["event"], json.loads(fields["data"])

    async def until(self, holds, limit_s=60):
        async with asyncio.timeout(limit_s):
            for one in self.events:
                if holds(one[2]):
                    return one
            async for one in self._blocks:
                self.events.append(one)
                if holds(one[2]):
                    return one
        raise AssertionError(f"the stream ended with {self.events[-1:]}")

    async def to_the_end(self, limit_s=60):
        async with asyncio.timeout(limit_s):
            self.events += [one async for one in self._blocks]
        return self.events[-1]


@contextlib.asynccontextmanager
async def stream(platform, query="", headers=None):
    async with platform.http.stream("GET", PATH + query, headers=platform.bearer | (headers or {})) as answer:
        assert answer.status_code == 200, await answer.aread()
        yield Stream(answer)


def has_ended(name):
    return lambda one: one["type"] == "job_update" and one["job"]["id"] == name and one["job"]["status"] == "COMPLETED"


async def test_a_program_hears_what_a_dashboard_hears(platform):
    async with dashboard(platform) as board, stream(platform) as told:
        assert told.answer.headers["content-type"].startswith("text/event-stream")
        name = (await platform.chat()).headers["x-gfe-job"]
        await board.until(lambda one: one["type"] == "balance_update")
        await told.until(lambda one: one["type"] == "balance_update")
        heard = [data for _, event, data in told.events if event == "job_update"]
        assert heard == board.told_of(name)
        assert all(id_ == str(data["seq"]) for id_, _, data in told.events if "seq" in data)
        assert all(event == data["type"] for _, event, data in told.events)
        assert told.events[0][1] == "jobs_update"


@pytest.mark.parametrize("way", ["since", "header", "both"])
async def test_who_comes_back_goes_on_where_it_was(platform, way):
    async with stream(platform) as told:
        first = (await platform.chat()).headers["x-gfe-job"]
        await told.until(lambda one: one["type"] == "balance_update")
        last = [id_ for id_, _, _ in told.events if id_][-1]
        assert first in json.dumps(told.events)
    missed = (await platform.chat()).headers["x-gfe-job"]
    query = {"since": f"?since={last}", "header": "", "both": "?since=1"}[way]  # clients that reconnect repeat the URL they began with
    headers = {} if way == "since" else {"Last-Event-ID": last}
    async with stream(platform, query, headers) as again:
        await again.until(has_ended(missed))
        assert {data["job"]["id"] for _, event, data in again.events if event == "job_update"} == {missed}


async def test_a_number_that_is_none_is_refused(platform):
    for since in ("-1", "x", "1.5", "9" * 30, "٣"):
        answer = await platform.http.get(PATH, params={"since": since}, headers=platform.bearer)
        assert (since, answer.status_code, "since" in answer.json()["errors"]) == (since, 400, True)


async def test_only_the_header_says_who_calls(platform):
    ada = await somebody(platform.ledger)
    wallet = await ada.key(scopes=["wallet:read"])
    for path, headers, status in (
        (PATH, {}, 401), (f"{PATH}?token={platform.key}&api_key={platform.key}", {}, 401), (PATH, {"Cookie": f"token={platform.key}"}, 401),
        (PATH, bearer("nonsense"), 401), (PATH, bearer(wallet), 403),
    ):  # fmt: skip
        answer = await platform.http.get(path, headers=headers)
        assert (path[:30], answer.status_code) == (path[:30], status)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_revoked_key_ends_its_stream(platform, monkeypatch):
    monkeypatch.setattr(routes, "CREDENTIAL_S", 0.1)
    monkeypatch.setattr(auth, "CACHE_S", 0.05)
    ada = await somebody(platform.ledger)
    key = await ada.key(scopes=["jobs:read"])
    async with stream(platform, headers=bearer(key)) as told:
        await told.until(lambda one: one["type"] == "jobs_update")
        (row,) = (await ada.get("/api/core/keys/")).json()["results"]
        await ada.call("DELETE", f"/api/core/keys/{row['id']}/")
        _, event, data = await told.to_the_end()
        assert (event, data["code"]) == ("error", "key_revoked")


async def test_seats_are_shared_with_the_sockets_and_given_back(platform):
    platform.app.state.live.seats = Seats(10, 1)
    async with dashboard(platform):
        answer = await platform.http.get(PATH, headers=platform.bearer)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    await until(lambda: not platform.app.state.live.seats._by_account)
    async with stream(platform):
        assert (await platform.http.get(PATH, headers=platform.bearer)).status_code == 429
    await until(lambda: not platform.app.state.live.seats._by_account)
    await until(lambda: platform.app.state.live._task is None)


async def test_a_stream_does_not_live_for_ever(platform, monkeypatch):
    monkeypatch.setattr(routes, "LIFETIME_S", 0.2)
    monkeypatch.setattr(routes, "CREDENTIAL_S", 0.1)
    async with stream(platform) as told:
        await told.to_the_end()
    assert [event for _, event, _ in told.events][-1] in {"beat", "models_update"}


async def test_a_program_that_reads_too_slowly_is_told_so_when_it_reads(platform, monkeypatch):
    monkeypatch.setattr(listeners, "MAX_BATCHES", 8)
    monkeypatch.setattr(listeners, "MAX_LETTERS", 2**21)
    host, port = platform.url.removeprefix("http://").split(":")
    narrow = sockets.socket()
    narrow.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=4096)
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {platform.key}\r\n\r\n".encode())
    await writer.drain()
    live = platform.app.state.live
    (victim,) = await until(lambda: list(live._listeners))
    fat = message("fat", text="x" * 200_000)
    async with asyncio.timeout(20):
        while victim._reason is None:
            victim.put([fat])
            await asyncio.sleep(0.005)
    async with dashboard(platform) as other:
        name = (await platform.chat()).headers["x-gfe-job"]
        await other.until(has_ended(name))
    assert b"too_slow" in await read_until(reader, b"too_slow")
    writer.close()


async def read_until(reader, word, limit_s=60):
    read = b""
    async with asyncio.timeout(limit_s):
        while word not in read:
            chunk = await reader.read(65536)
            assert chunk, "it ended"
            read = read[-100:] + chunk
    return read
