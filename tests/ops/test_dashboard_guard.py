"""The dashboard guard before a real HTTP dashboard, with the real ledger: who gets in, what passes, what does not."""

import asyncio
import re
from contextlib import asynccontextmanager

import aiohttp
import pytest

from cluster.service_tokens import ServiceTokens
from ledger.audit_log import Origin
from ledger.client import LedgerClient, LedgerUnavailable, NotAuthenticated, NotPermitted
from ledger.identity.passwords import Passwords
from ledger.operators import people
from serve_app.dashboard_guard import site as guard_site
from serve_app.dashboard_guard.settings import GuardSettings
from serve_app.dashboard_guard.site import GuardSite, listening
from serve_app.dashboard_guard.tools import Refused, Tool, grafana, ray
from serve_app.dashboard_guard.visits import IDLE_S, LONGEST_S, LOOK_S, UNSURE_S, PassSpent, Visits
from tests.ledger.people import PASSWORD, bearer, sign_in, somebody
from tests.ops.stand_in_dashboard import StandIn

GUARD_URL = "http://127.0.0.1:8266"


class Clock:
    """A clock that tests move."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


class Guard:
    """A running guard and a browser's session without a jar: cookies are sent when a test says so."""

    def __init__(self, visits, dashboard, url, browser):
        self.visits, self.dashboard, self.url, self.browser = visits, dashboard, url, browser

    async def ask(self, path, method="GET", cookie=None, **options):
        headers = options.pop("headers", {}) | ({"Cookie": f"gfe_guard={cookie}"} if cookie else {})
        async with self.browser.request(method, f"{self.url}{path}", headers=headers, allow_redirects=False, **options) as answer:
            return answer.status, answer.headers, (await answer.read()).decode()

    async def enter(self, word, tool="ray"):
        """Bring a pass; answer the status, the headers and the cookie's word."""
        status, headers, _ = await self.ask("/enter", "POST", data={"pass": word, "tool": tool})
        found = re.match(r"gfe_guard=([\w-]+);", headers.get("Set-Cookie", ""))
        return status, headers, found[1] if found else None


@asynccontextmanager
async def guard_before(ledger_client, *, dashboard=None, boards=None, wall_clock=lambda: 0.0, clock=None):
    dashboard = dashboard or StandIn()
    await dashboard.start()
    tools = {"ray": ray(dashboard.url, "cluster-token")}
    if boards:
        await boards.start()
        tools["grafana"] = grafana(boards.url, None)
    visits = Visits(ledger_client, wall_clock=wall_clock, **({"clock": clock} if clock else {}))
    site = GuardSite(visits, tools, "http://127.0.0.1:8080", is_tls=False)
    hosts = GuardSettings(secrets_dir="/", ledger_socket="/s", guard_url="https://guard.example").hosts
    async with (
        listening(site, "127.0.0.1", 0, hosts) as port,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as browser,
    ):
        yield Guard(visits, dashboard, f"http://127.0.0.1:{port}", browser)
    await dashboard.stop()
    if boards:
        await boards.stop()


@pytest.fixture
async def ledger(ledger_with):
    return await ledger_with(guard_url=GUARD_URL, grafana_url="http://127.0.0.1:3000/grafana")


@pytest.fixture
async def operator(ledger):
    await ledger.context.database.transact(
        lambda connection: people.create_operator(connection, "olga", PASSWORD, Passwords((8, 1)), 10, Origin("test"))
    )
    return (await sign_in(ledger, "olga")).json()["access"]


@pytest.fixture
async def guards_client(ledger):
    tokens = ServiceTokens((ledger.folder / "service_guard.pem").read_bytes(), "guard")
    client = LedgerClient(ledger.context.settings.ledger_socket, lambda: tokens.mint("ledger-internal"))
    await client.start()
    yield client
    await client.aclose()


async def pass_of(ledger, token, tool="ray"):
    return await ledger.http.post(f"/api/admin/tools/{tool}/pass/", headers=bearer(token))


# --- with the real ledger ---------------------------------------------------------------------------------------------------------


async def test_an_operator_gets_in_by_a_pass_and_looks_at_the_dashboard_with_the_clusters_token(ledger, operator, guards_client):
    made = (await pass_of(ledger, operator)).json()
    assert made["url"] == f"{GUARD_URL}/enter"
    async with guard_before(guards_client) as guard:
        status, headers, cookie = await guard.enter(made["word"])
        assert status == 200
        assert headers["Refresh"] == "0; url=/ray/"
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(headers["Set-Cookie"].split("; "))
        status, _, text = await guard.ask("/ray/api/v0/nodes?limit=5", cookie=cookie)
        assert (status, '"path": "/api/v0/nodes?limit=5"' in text) == (200, True)
        assert guard.dashboard.asked[-1].headers["Authorization"] == "Bearer cluster-token"
    log = (await ledger.http.get("/api/admin/audit-log/", headers=bearer(operator))).json()["results"]
    assert [line["target"] for line in log if line["action"] == "guard.pass_made"] == ["ray"]


async def test_a_pass_counts_once_and_not_after_its_seconds_nor_from_before_a_restart(ledger, operator, guards_client, monkeypatch):
    word = (await pass_of(ledger, operator)).json()["word"]
    async with guard_before(guards_client) as guard:
        answers = await asyncio.gather(*(guard.enter(word) for _ in range(5)))
        assert sorted(status for status, _, _ in answers) == [200, 401, 401, 401, 401]
    other = (await pass_of(ledger, operator)).json()["word"]
    made_at = ledger.context.signing_keys.verify(other, "dashboard-guard")["iat"]
    async with guard_before(guards_client, wall_clock=lambda: made_at + 0.5) as guard:
        assert (await guard.enter(other))[0] == 401
    monkeypatch.setattr("ledger.identity.passes.LIFETIME_S", -1)
    late = (await pass_of(ledger, operator)).json()["word"]
    with pytest.raises(NotAuthenticated):
        await guards_client.enter_guard(late)


async def test_nothing_but_a_pass_opens_the_guard(ledger, operator, guards_client):
    """Neither an operator's access token, nor a user's, nor a key; and a pass is no credential anywhere else."""
    ada = await somebody(ledger, "ada")
    async with guard_before(guards_client) as guard:
        for word in (operator, ada.tokens["access"], await ada.key(), "x.y.z", ""):
            assert (await guard.enter(word))[0] == 401
        assert guard.dashboard.asked == []
    word = (await pass_of(ledger, operator)).json()["word"]
    assert (await ledger.http.get("/api/admin/users/", headers=bearer(word))).status_code == 401
    assert (await pass_of(ledger, ada.tokens["access"])).status_code == 403
    assert (await pass_of(ledger, operator, "nothing")).status_code == 404
    with pytest.raises(NotPermitted):
        await ledger.client.enter_guard(word)  # Serve is not the guard


async def test_a_visit_ends_with_the_sign_in(ledger, operator, guards_client):
    clock = Clock()
    async with guard_before(guards_client, clock=clock) as guard:
        cookie = (await guard.enter((await pass_of(ledger, operator)).json()["word"]))[2]
        assert (await guard.ask("/ray/", cookie=cookie))[0] == 200
        session = (await ledger.http.get("/api/core/sessions/", headers=bearer(operator))).json()["results"][0]["id"]
        assert (await ledger.http.delete(f"/api/core/sessions/{session}/", headers=bearer(operator))).status_code == 204
        ledger.context.credentials.forget_sessions()
        clock.now += LOOK_S
        assert (await guard.ask("/ray/", cookie=cookie))[0] == 401


async def test_who_is_no_operator_any_more_is_out(ledger, operator, guards_client, database):
    import psycopg

    clock = Clock()
    async with guard_before(guards_client, clock=clock) as guard:
        cookie = (await guard.enter((await pass_of(ledger, operator)).json()["word"]))[2]
        with psycopg.connect(database.admin_url) as admin:
            admin.execute("UPDATE ledger.person SET is_operator = false WHERE username = 'olga'")
        ledger.context.credentials.forget_sessions()
        statuses = []
        while 401 not in statuses and len(statuses) < 5:  # a ledger that is too slow to answer throws nobody out at once
            clock.now += LOOK_S
            statuses.append((await guard.ask("/ray/", cookie=cookie))[0])
        assert statuses[-1] == 401


async def test_the_console_hears_of_tools_only_where_there_is_a_guard(ledger_with, ledger, operator):
    tools = (await ledger.http.get("/api/admin/tools/", headers=bearer(operator))).json()["results"]
    assert [tool["name"] for tool in tools] == ["ray", "grafana"]
    page = await ledger.http.get("/no-such-page")
    assert f"form-action 'self' {GUARD_URL};" in page.headers["content-security-policy"] or page.status_code == 200


# --- with a ledger that says yes --------------------------------------------------------------------------------------------------


class SaysYes:
    """A ledger that lets everybody in, until told otherwise."""

    def __init__(self):
        self.failure = None
        self.looks = 0

    async def enter_guard(self, word):
        import uuid

        from ledger.client import GuardVisitor

        return GuardVisitor(session=uuid.uuid4(), user="user_1", username="olga", pass_id=word, made_at=2_000)

    async def look_at_visit(self, session):
        self.looks += 1
        if self.failure:
            raise self.failure


@pytest.fixture
async def inside():
    """A guard before both dashboards, and a cookie."""
    async with guard_before(SaysYes(), boards=StandIn(token=None, base="/grafana")) as guard:
        yield guard, (await guard.enter("pass"))[2]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
async def test_the_guard_passes_looks_alone(inside, method):
    guard, cookie = inside
    status, _, text = await guard.ask("/ray/api/jobs/", method, cookie=cookie, data=None if method == "TRACE" else b"{}")
    assert (status, "read_only" in text) == (405, True)
    assert guard.dashboard.asked == []


async def test_head_is_a_look(inside):
    guard, cookie = inside
    status, _, text = await guard.ask("/ray/", "HEAD", cookie=cookie)
    assert (status, text, guard.dashboard.asked[-1].method) == (200, "", "HEAD")


async def test_a_look_with_a_body_is_none(inside):
    guard, cookie = inside
    assert (await guard.ask("/ray/", "GET", cookie=cookie, data=b"{}"))[0] == 400
    assert guard.dashboard.asked == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/authenticate", "/task/traceback?x=1", "/worker/cpu_profile", "/memory_profile?pid=1", "/api/packages/gcs/x", "/api/v0/delay/5",
        "/test/dump",
    ],
)  # fmt: skip
async def test_paths_of_rays_that_do_more_than_show_are_not_passed(inside, path):
    guard, cookie = inside
    status, _, text = await guard.ask(f"/ray{path}", cookie=cookie)
    assert (status, "not_passed" in text) == (403, True)
    assert guard.dashboard.asked == []


@pytest.mark.parametrize("path", ["/a/../worker/x", "/%2e%2e/x", "/a%2fb", "/%252e%252e/x", "//worker/x", "/a\\b", "/a%00b", "/x/%2E/y"])
def test_paths_that_could_mean_something_else_behind_the_guard_are_not_passed(path):
    with pytest.raises(Refused) as refused:
        ray("http://127.0.0.1:8265", "t").target("GET", path)
    assert refused.value.status == 400


async def test_cookies_and_credentials_pass_in_neither_direction(inside):
    guard, cookie = inside
    sent = {
        "Authorization": "Bearer mine", "X-Ray-Authorization": "Bearer mine", "Proxy-Authorization": "Basic x", "X-Forwarded-For": "1.2.3.4",
        "X-WEBAUTH-USER": "admin", "Cookie": f"gfe_guard={cookie}; gfe_refresh=secret", "Accept": "application/json", "X-Odd": "1",
    }  # fmt: skip
    status, headers, _ = await guard.ask("/ray/api/v0/nodes", headers=sent)
    assert status == 200
    asked = guard.dashboard.asked[-1].headers
    assert asked["Authorization"] == "Bearer cluster-token"
    assert {name.lower() for name in asked} == {"host", "authorization", "accept", "accept-encoding", "user-agent"}
    assert "mine" not in str(asked)
    assert "secret" not in str(asked)
    assert "cluster-token" not in str(headers)
    assert not {"set-cookie", "authorization", "x-ray-authorization", "access-control-allow-origin", "server"} & {
        name.lower() for name in headers
    }
    assert headers["Cache-Control"] == "no-store"
    assert "frame-ancestors" in headers["Content-Security-Policy"]


async def test_a_name_that_somebody_else_points_here_is_refused(inside):
    guard, cookie = inside
    for host, status in [("attacker.example", 421), (f"attacker.example:{guard.url.rsplit(':', 1)[1]}", 421), ("guard.example", 200)]:
        assert (await guard.ask("/ray/", cookie=cookie, headers={"Host": host}))[0] == status, host
    assert (await guard.ask("/enter", "POST", headers={"Host": "attacker.example"}, data={"pass": "other", "tool": "ray"}))[0] == 421


async def test_there_is_no_websocket(inside):
    guard, cookie = inside
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await guard.browser.ws_connect(f"{guard.url}/ray/api/jobs/1/logs/tail", headers={"Cookie": f"gfe_guard={cookie}"})
    assert refused.value.status == 403
    assert guard.dashboard.asked == []


async def test_who_has_no_visit_is_told_the_way_in(inside):
    guard, _ = inside
    status, _, page = await guard.ask("/ray/", headers={"Accept": "text/html"})
    assert (status, "http://127.0.0.1:8080/admin" in page) == (401, True)
    status, headers, _ = await guard.ask("/ray/api/v0/nodes", cookie="x" * 43)
    assert (status, headers["Content-Type"].split(";")[0]) == (401, "application/problem+json")
    assert guard.dashboard.asked == []


async def test_redirections_stay_behind_the_guard(inside):
    guard, cookie = inside
    status, headers, _ = await guard.ask("/grafana/moved", cookie=cookie)
    assert (status, headers["Location"]) == (302, "/grafana/home?tab=1")
    for location in ("https://attacker.example/", "//attacker.example/", "\\\\attacker.example"):
        guard.dashboard.location = location
        assert (await guard.ask("/ray/moved", cookie=cookie))[0] == 502, location


async def test_a_board_may_read_its_figures_and_nothing_else_by_post(inside):
    guard, cookie = inside
    status, _, text = await guard.ask("/grafana/api/ds/query?ds_type=prometheus", "POST", cookie=cookie, json={"queries": []})
    assert (status, '"body": "{\\"queries\\": []}"' in text) == (200, True)
    for path, options in {
        "/grafana/api/ds/query": {"data": b"x=1"}, "/grafana/api/dashboards/db": {"json": {}}, "/grafana/api/ds/query/x": {"json": {}},
        "/ray/api/ds/query": {"json": {}},
    }.items():  # fmt: skip
        assert (await guard.ask(path, "POST", cookie=cookie, **options))[0] in {403, 405}, path
    elsewhere = await guard.ask("/grafana/api/ds/query", "POST", cookie=cookie, json={}, headers={"Sec-Fetch-Site": "same-site"})
    assert elsewhere[0] == 403


async def test_what_takes_too_long_or_is_too_large_is_cut_off(inside, monkeypatch):
    guard, cookie = inside
    monkeypatch.setattr(guard_site, "REQUEST_LIMIT_S", 0.3)
    assert (await guard.ask("/ray/slow", cookie=cookie))[0] == 504
    monkeypatch.setattr(guard_site, "REQUEST_LIMIT_S", 30)
    monkeypatch.setattr(guard_site, "MAX_ANSWER_BYTES", 1_000_000)
    with pytest.raises(aiohttp.ClientPayloadError):
        await guard.ask("/ray/large", cookie=cookie)
    status, _, _ = await guard.ask("/enter", "POST", data={"pass": "x" * (guard_site.MAX_BODY_BYTES + 1), "tool": "ray"})
    assert status == 413


async def test_a_dashboard_that_does_not_take_the_token_or_is_away_is_said_so(inside):
    guard, cookie = inside
    guard.dashboard.token = "another"
    status, _, text = await guard.ask("/ray/", cookie=cookie)
    assert (status, "credential_refused" in text) == (502, True)
    await guard.dashboard.stop()
    assert (await guard.ask("/ray/", cookie=cookie))[0] == 502


# --- visits -----------------------------------------------------------------------------------------------------------------------


async def test_the_ledger_is_asked_again_once_for_many_requests_and_its_silence_is_borne_for_a_minute():
    ledger, clock = SaysYes(), Clock()
    visits = Visits(ledger, clock, lambda: 0.0)
    cookie, _ = await visits.enter("pass")
    clock.now += LOOK_S
    assert all(await asyncio.gather(*(visits.find(cookie) for _ in range(20))))
    assert ledger.looks == 1
    ledger.failure = LedgerUnavailable()
    clock.now += UNSURE_S
    assert await visits.find(cookie) is not None
    clock.now += 1
    with pytest.raises(LedgerUnavailable):
        await visits.find(cookie)
    ledger.failure = None
    assert await visits.find(cookie) is not None


@pytest.mark.parametrize(("step_s", "steps"), [(IDLE_S + 1, 1), (IDLE_S - 1, int(LONGEST_S / (IDLE_S - 1)) + 1)])
async def test_a_visit_ends_when_nobody_looks_and_at_the_end_of_the_day(step_s, steps):
    clock = Clock()
    visits = Visits(SaysYes(), clock, lambda: 0.0)
    cookie, _ = await visits.enter("pass")
    for step in range(steps):
        clock.now += step_s
        assert (await visits.find(cookie) is None) == (step == steps - 1)


async def test_visits_are_bounded_and_the_idlest_goes(monkeypatch):
    monkeypatch.setattr("serve_app.dashboard_guard.visits.MOST", 3)
    clock = Clock()
    visits = Visits(SaysYes(), clock, lambda: 0.0)
    cookies = []
    for number in range(5):
        clock.now += 1
        cookies.append((await visits.enter(f"pass {number}"))[0])
    assert [await visits.find(cookie) is not None for cookie in cookies] == [False, False, True, True, True]
    with pytest.raises(PassSpent):
        await visits.enter("pass 4")


def test_a_tool_never_shows_its_credential():
    assert "secret" not in repr(Tool(name="ray", title="Ray", url=ray("http://x", "").url, credential="secret"))


def test_over_tls_the_cookie_is_the_hosts_alone():
    site = GuardSite(Visits(SaysYes()), {}, "https://console.example", is_tls=True)
    assert site._cookie == "__Host-gfe_guard"
    assert GuardSettings(secrets_dir="/", ledger_socket="/s", guard_url="https://guard.example").is_tls
