"""Who may listen: a credential in the first frame, checked again and again; pages of listed origins; frames of four shapes; so many sockets."""

import contextlib
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ledger.client import LedgerUnavailable, RateLimited
from serve_app import auth
from serve_app.live import session
from serve_app.live.frames import Auth, FrameRefused, Subscribe, frame_from
from serve_app.live.messages import Kind
from serve_app.live.seats import STRANGERS, Seats
from serve_app.settings import ServeSettings
from tests.ledger.people import somebody
from tests.serve_app.dashboards import Dashboard, dashboard, opened, socket_url
from tests.waiting import until

MISTYPED = "gfe_live_aaaaaaaa_" + "b" * 43 + "_cccccc"


@pytest.fixture
def checks_often(monkeypatch):
    """Credentials are checked within moments, not within seconds."""
    monkeypatch.setattr(session, "CREDENTIAL_S", 0.1)
    monkeypatch.setattr(auth, "CACHE_S", 0.05)


async def closing(platform, *frames, **options):
    async with opened(platform, **options) as board:
        with contextlib.suppress(Exception):
            for frame in frames:
                await board.socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))
        code, reason = await board.until_closed()
        return code, reason, board


async def test_a_key_and_an_access_token_open_a_dashboard_and_nothing_else_does(platform):
    ada = await somebody(platform.ledger)
    revoked, wallet, good = await ada.key(scopes=["jobs:read"]), await ada.key(scopes=["wallet:read"]), await ada.key(scopes=["jobs:read"])
    await revoke(ada, revoked)
    bob = await somebody(platform.ledger, "bob")
    await bob.post("/api/core/logout/", headers={"X-GFE-CSRF": "1", "Origin": "http://127.0.0.1:8080"})
    for token in (platform.key, good, ada.tokens["access"]):
        async with dashboard(platform, token) as board:
            assert board.heard[0] == {"type": "authenticated"}
            assert len(board.of("jobs_update")) == 1
    refused = {
        revoked: 4401,
        wallet: 4403,
        MISTYPED: 4401,
        "nonsense": 4401,
        " ": 4401,
        "a.b.c": 4401,
        "x" * 2048: 4401,
        "gfe_live_ü": 4401,
    }
    tampered = ada.tokens["access"][:-4] + "AAAA"
    for token, code in (refused | {tampered: 4401}).items():
        found, reason, board = await closing(platform, {"type": "auth", "token": token})
        assert (token[:40], found) == (token[:40], code), reason
        assert board.of("jobs_update") == board.of("authenticated") == []


async def revoke(person, key):
    (row,) = [one for one in (await person.get("/api/core/keys/")).json()["results"] if key.startswith("gfe_live_" + one["id"])]
    assert (await person.call("DELETE", f"/api/core/keys/{row['id']}/")).status_code in {200, 204}


async def test_no_credential_is_read_from_anywhere_but_the_first_frame(platform, monkeypatch):
    monkeypatch.setattr(session, "FIRST_FRAME_S", 0.3)
    for query, options in (
        ("", {"additional_headers": platform.bearer}),
        (f"?token={platform.key}&access_token={platform.key}", {}),
        ("", {"additional_headers": {"Cookie": f"token={platform.key}"}}),
        ("", {"subprotocols": ["gfe", platform.key]}),
    ):
        async with connect(socket_url(platform) + query, proxy=None, **options) as socket:
            assert socket.subprotocol is None
            assert (await Dashboard(socket).until_closed())[0] == 4401


async def test_a_page_of_another_origin_is_refused_before_the_upgrade(platform):
    for origin in (None, "http://127.0.0.1:8080", "http://127.0.0.1:8000"):
        async with dashboard(platform, origin=origin) as board:
            assert board.of("jobs_update")
    for origin in (
        "https://evil.example", "null", "http://127.0.0.1:8080.evil.example", "http://127.0.0.1", "https://127.0.0.1:8080", "*", "",
    ):  # fmt: skip
        with pytest.raises(InvalidStatus) as refused:
            async with opened(platform, additional_headers={"Origin": origin}):
                pass
        assert (origin, refused.value.response.status_code) == (origin, 403)


def test_the_origins_are_those_that_are_set_or_our_own(tmp_path):
    def origins(**settings):
        return ServeSettings(secrets_dir=tmp_path, ledger_socket=tmp_path, **settings).origins

    assert origins() == {"http://127.0.0.1:8080", "http://127.0.0.1:8000"}
    assert origins(ledger_url="https://gpu.example/console/") == {"https://gpu.example", "http://127.0.0.1:8000"}
    assert origins(public_url="https://gpu.example") == {"https://gpu.example", "http://127.0.0.1:8000"}
    listed = origins(console_origins="https://a.example/, https://b.example")
    assert listed == {"https://a.example", "https://b.example", "http://127.0.0.1:8000"}


# --- while it is open ---------------------------------------------------------------------------------------------------------------------


async def test_a_revoked_key_is_cut(platform, checks_often):
    ada = await somebody(platform.ledger)
    key = await ada.key(scopes=["jobs:read"])
    async with dashboard(platform, key) as board, dashboard(platform) as other:
        await revoke(ada, key)
        assert (await board.until_closed())[0] == 4401
        await other.say("ping")
        await other.until(lambda one: one["type"] == "pong")


def test_a_cut_takes_less_than_twenty_seconds():
    assert session.CREDENTIAL_S + auth.CACHE_S < 20


async def test_a_token_is_renewed_before_it_ends(platform, checks_often, monkeypatch):
    ada = await somebody(platform.ledger)
    first, second = await ada.key(scopes=["jobs:read"]), await ada.key(scopes=["jobs:read"])
    async with dashboard(platform, first) as board:
        await board.say("auth", token=second)
        await board.until(lambda one: len(board.of("authenticated")) == 2)
        await revoke(ada, first)
        checks = []
        require = platform.context.callers.require
        monkeypatch.setattr(platform.context.callers, "require", lambda *asked: checks.append(asked[0]) or require(*asked))
        await until(lambda: len(checks) > 3)
        assert set(checks) == {second}
        await board.say("ping")
        await board.until(lambda one: one["type"] == "pong")
        await revoke(ada, second)
        assert (await board.until_closed())[0] == 4401
        assert len(board.of("jobs_update")) == 1


async def test_a_renewal_by_somebody_else_or_nobody_ends_it(platform):
    ada = await somebody(platform.ledger)
    for token in (ada.tokens["access"], MISTYPED):
        async with dashboard(platform) as board:
            await board.say("auth", token=token)
            assert (await board.until_closed())[0] == 4401


async def test_a_ledger_that_is_silent_cuts_nobody_for_a_while(platform, checks_often, monkeypatch):
    asked = []

    async def silent(credential, scope):
        asked.append(credential)
        raise LedgerUnavailable

    async with dashboard(platform) as board:
        monkeypatch.setattr(platform.context.callers, "require", silent)
        await until(lambda: len(asked) > 3)
        await board.say("ping")
        await board.until(lambda one: one["type"] == "pong")
        monkeypatch.setattr(session, "LEDGER_SILENT_S", 0.0)
        assert (await board.until_closed())[0] == 1013


async def test_without_the_ledger_nobody_new_is_let_in(platform, monkeypatch):
    async def silent(credential, scope):
        raise LedgerUnavailable

    monkeypatch.setattr(platform.context.callers, "require", silent)
    assert (await closing(platform, {"type": "auth", "token": platform.key}))[0] == 1013


async def test_a_socket_does_not_live_for_ever(platform, monkeypatch):
    monkeypatch.setattr(session, "LIFETIME_S", 0.5)
    async with dashboard(platform) as board:
        code, reason = await board.until_closed()
        assert (code, "since" in reason) == (1012, True)


# --- frames -------------------------------------------------------------------------------------------------------------------------------

MALFORMED = [
    "", "nonsense", "[]", "null", "7", '"auth"', "{}", '{"type": "shutdown"}', '{"type": 1}', '{"type": "ping", "more": 1}', '{"type": "subscribe"}',
    '{"type": "subscribe", "kinds": []}', '{"type": "subscribe", "kinds": ["all"]}', '{"type": "subscribe", "kinds": "jobs"}',
    '{"type": "unsubscribe", "kinds": [1]}', '{"type": "auth"}', '{"type": "auth", "token": 5}', '{"type": "auth", "token": ""}',
    '{"type": "auth", "token": "x", "since": -1}', '{"type": "auth", "token": "x", "since": "1"}', "[" * 4000, '{"type": "ping"}' + " " * 5000,
    '{"type": "ping", "type": "auth"}', b"\x00\x01", b'{"type": "ping"}',
]  # fmt: skip


async def test_a_malformed_frame_gets_an_error_and_the_socket_stays(platform):
    for frame in MALFORMED:
        async with dashboard(platform) as board:
            await board.socket.send(frame)
            error = await board.until(lambda one: one["type"] == "error")
            assert set(error) == {"type", "code", "detail"}
            assert error["code"] in {"malformed", "not_text", "too_large"}
            await board.say("ping")
            await board.until(lambda one: one["type"] == "pong")


async def test_the_third_one_ends_it(platform):
    async with dashboard(platform) as board:
        for _ in range(3):
            await board.socket.send("nonsense")
        assert (await board.until_closed())[0] == 1008
        assert len(board.of("error")) == 3


async def test_whoever_says_something_else_first_is_asked_for_a_credential(platform):
    async with opened(platform) as board:
        await board.say("ping")
        assert (await board.hear())[0]["code"] == "not_authenticated"
        await board.say("auth", token=platform.key)
        await board.until(lambda one: one["type"] == "jobs_update")


async def test_who_talks_too_much_is_let_go(platform):
    async with dashboard(platform) as board:
        with contextlib.suppress(Exception):
            for _ in range(session.FRAMES + 1):
                await board.say("ping")
        assert (await board.until_closed())[0] == 1008


async def test_a_defect_in_a_message_ends_its_socket_with_a_code_and_no_other(platform, monkeypatch):
    async with dashboard(platform) as board, dashboard(platform) as other:

        async def broken(listener, kinds):
            raise RuntimeError("a defect")

        monkeypatch.setattr(platform.app.state.live, "resume", broken)
        with capture_logs() as logs:
            await board.say("subscribe", kinds=["jobs"])
            assert (await board.until_closed())[0] == 1011
        assert [one["event"] for one in logs if one["log_level"] == "error"] == ["live_socket_failed"]
        await other.say("ping")
        await other.until(lambda one: one["type"] == "pong")


@given(st.text(max_size=200) | st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), st.lists).map(json.dumps))
def test_any_text_is_a_frame_or_refused(text):
    with contextlib.suppress(FrameRefused):
        frame_from(text)


@given(
    st.dictionaries(
        st.sampled_from(["type", "token", "since", "kinds", "x"]), st.sampled_from(["auth", "ping", ["jobs"], 3, None, "x" * 9])
    )
)
def test_what_was_sent_is_never_repeated(said):
    with pytest.raises(FrameRefused) as refused:
        frame_from(json.dumps(said | {"secret": "canary-word"}))
    assert "canary-word" not in refused.value.detail


def test_the_four_frames():
    assert frame_from('{"type":"auth","token":"t","since":5}') == Auth(type="auth", token="t", since=5)
    assert frame_from('{"type":"subscribe","kinds":["jobs","provider_stats"]}') == Subscribe(
        type="subscribe", kinds=[Kind.JOBS, Kind.PROVIDER_STATS]
    )
    assert "t0ken" not in repr(frame_from('{"type":"auth","token":"t0ken"}'))


# --- seats --------------------------------------------------------------------------------------------------------------------------------


async def test_an_account_has_so_many_sockets_and_others_theirs(platform):
    ada = await somebody(platform.ledger)
    platform.app.state.live.seats = Seats(10, 2)
    async with dashboard(platform), dashboard(platform), dashboard(platform, ada.tokens["access"]):
        code, reason, _ = await closing(platform, {"type": "auth", "token": platform.key})
        assert (code, "2 live connections" in reason) == (1013, True)
    async with dashboard(platform):
        pass
    await until(lambda: not platform.app.state.live.seats._by_account)


async def test_a_full_replica_says_so(platform):
    platform.app.state.live.seats = Seats(1, 10)
    ada = await somebody(platform.ledger)
    async with dashboard(platform):
        assert (await closing(platform, {"type": "auth", "token": ada.tokens["access"]}))[0] == 1013


def test_strangers_take_no_seats_and_are_counted_for_themselves():
    seats = Seats(1, 1)
    with contextlib.ExitStack() as stack:
        for _ in range(STRANGERS):
            stack.enter_context(seats.waiting())
        with pytest.raises(RateLimited), seats.waiting():
            pass
        with seats.taken(str(uuid.uuid4())):
            pass
    with seats.waiting():
        pass
