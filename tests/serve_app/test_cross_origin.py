"""The console's page calls the job APIs from the ledger's origin; pages of other origins cannot (S33)."""

import pytest

from tests.serve_app.consumers import Consumer, anonymous

CONSOLE, STRANGER = "http://127.0.0.1:8080", "http://evil.example"
JOBS = "/api/computing/jobs/"


@pytest.fixture
async def platform(platform_with):
    return await platform_with(credits="100.00")


def allowed(answer):
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


async def asked_before(platform, origin, path=JOBS, method="GET"):
    headers = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}
    return await platform.http.options(path, headers=headers)


@pytest.mark.parametrize("path", [JOBS, "/api/computing/submit-job/", "/v1/chat/completions", "/api/admin/nodes/"])
async def test_the_console_may_send_its_credential(platform, path):
    answer = await asked_before(platform, CONSOLE, path, "POST")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, CONSOLE)
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert "Idempotency-Key" in answer.headers["access-control-allow-headers"]
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", [STRANGER, "null", f"{CONSOLE}.evil.example", "http://127.0.0.1:80800", f"{CONSOLE}/"])
async def test_no_other_page_may(platform, origin):
    assert allowed(await asked_before(platform, origin)) == {}
    assert allowed(await anonymous(platform).get("/api/computing/stats/", headers={"Origin": origin})) == {}


async def test_the_console_may_read_answers_and_refusals_and_what_their_headers_say(platform):
    consumer = Consumer(platform)
    answer = await consumer.get(JOBS, headers={"Origin": CONSOLE})
    refused = await anonymous(platform).get(JOBS, headers={"Origin": CONSOLE})
    unknown = await anonymous(platform).get("/api/computing/nothing/", headers={"Origin": CONSOLE})
    assert [answer.status_code, refused.status_code, unknown.status_code] == [200, 401, 404]
    for one in (answer, refused, unknown):
        assert one.headers["access-control-allow-origin"] == CONSOLE
        assert "Retry-After" in one.headers["access-control-expose-headers"]
        assert one.headers["vary"] == "Origin"


async def test_programs_notice_nothing(platform):
    answer = await anonymous(platform).get("/api/computing/stats/")
    assert allowed(answer) == {}
    assert (await platform.http.options(JOBS)).status_code == 405
