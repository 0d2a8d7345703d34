"""Who may call which route of the jobs API: every route by everybody (G18, section 0: 401 texts, slashes)."""

import re

import pytest

from ledger.client import job_id, new_hold_id
from serve_app.api import jobs, nodes, provider_stats, public, receipts, submitting
from tests.ledger.people import somebody
from tests.serve_app.consumers import Consumer, anonymous, keyed

PUBLIC = {"/api/computing/models/", "/api/computing/stats/"}
# route -> what a credential must have, and what its owner gets (202 and 409: the job has ended or not)
ROUTES = {
    ("POST", "/api/computing/submit-job/"): ("jobs:write", {201}),
    ("POST", "/api/computing/quote/"): ("jobs:write", {200}),
    ("GET", "/api/computing/jobs/"): ("jobs:read", {200}),
    ("GET", "/api/computing/jobs/{id}/"): ("jobs:read", {200}),
    ("GET", "/api/computing/jobs/{id}/why/"): ("jobs:read", {200}),
    ("GET", "/api/computing/jobs/{id}/receipt/"): ("jobs:read", {200}),
    ("GET", "/api/computing/jobs/{id}/stream/"): ("jobs:read", {200}),
    ("POST", "/api/computing/jobs/{id}/cancel/"): ("jobs:write", {409}),
    ("DELETE", "/api/computing/jobs/{id}/"): ("jobs:write", {409}),
    ("GET", "/api/computing/nodes/"): ("nodes:read", {200}),
    ("GET", "/api/computing/nodes/{id}/why/"): ("nodes:read", {404}),
    ("GET", "/api/computing/provider-stats/"): ("nodes:read", {200}),
    ("GET", "/api/computing/models/"): (None, {200}),
    ("GET", "/api/computing/stats/"): (None, {200}),
}
HIDDEN = {"/api/computing/jobs/{id}/receipt/", "/api/computing/nodes/{id}/why/"}  # another's is as unknown as none
SCOPES = {"jobs:read", "jobs:write", "nodes:read", "wallet:read"}


@pytest.fixture
async def platform(platform_with):
    running = await platform_with(credits="100.00")
    await running.context.feed.poll()
    return running


def asks(method, path):
    return {"json": {"prompt": "hi", "model": "fake:words=3"}} if path.endswith(("submit-job/", "quote/", "submit-job", "quote")) else {}


def with_and_without_slash(path):
    return path, path.rstrip("/")


def test_the_matrix_names_every_route():
    found = {
        (method, route.path)
        for module in (jobs, nodes, provider_stats, public, receipts, submitting)
        for route in module.ROUTES
        for method in route.methods - {"HEAD"}
        if route.path.startswith("/api/computing/")
    }
    assert found == {(method, spelling) for method, path in ROUTES for spelling in with_and_without_slash(path)}


async def test_every_route_asks_everybody_for_what_it_needs(platform):
    owner = Consumer(platform)
    job = (await owner.ended(await owner.submitted()))["id"]
    await platform.settled()
    ada = await somebody(platform.ledger)
    other, stranger = Consumer(platform, ada.headers), anonymous(platform)
    mine = await somebody(platform.ledger, "mine")
    for (method, route), (scope, expected) in ROUTES.items():
        for path in with_and_without_slash(route.replace("{id}", job)):
            case = (method, path)
            nobody = await stranger.call(method, path, **asks(*case))
            assert (await owner.call(method, path, **asks(*case))).status_code in expected, case
            if scope is None:
                assert nobody.status_code == 200, case
                continue
            assert (nobody.status_code, nobody.json()["detail"]) == (401, "Authentication credentials were not provided."), case
            assert nobody.headers["www-authenticate"] == "Bearer"
            assert nobody.headers["content-type"] == "application/problem+json"
            answer = await other.call(method, path, **asks(*case))
            refused = 404 if route in HIDDEN else 403
            assert answer.status_code == refused if "{id}" in route else answer.status_code in expected, case
    for (method, route), (scope, _) in ROUTES.items():
        if scope is None:
            continue
        lacking = keyed(platform, await mine.key(scopes=sorted(SCOPES - {scope})))
        answer = await lacking.call(method, route.replace("{id}", job), **asks(method, route))
        assert (answer.status_code, answer.json()["detail"]) == (403, f"This credential lacks the scope `{scope}`."), (method, route)


async def test_no_credential_is_taken_from_a_url(platform):
    """Section 0, D18."""
    for name in ("token", "key", "api_key", "access_token"):
        answer = await anonymous(platform).get("/api/computing/jobs/", params={name: platform.key})
        assert answer.status_code == 401


async def test_ids_are_prefixed_and_money_is_text(platform):
    """Section 0, D9."""
    owner = Consumer(platform)
    said = (await owner.submit()).json()
    row = await owner.ended(said["job_id"])
    listed = (await owner.jobs())["results"][0]
    assert re.fullmatch(r"job_[0-9A-Z]{26}", row["id"])
    for money in (said["held"], row["cost"], row["held"], listed["cost"]):
        assert re.fullmatch(r"-?\d+\.\d{2,6}", money)
    for moment in (row["created_at"], row["started_at"], row["completed_at"], listed["created_at"]):
        assert moment.endswith("+00:00")


@pytest.mark.parametrize("path", ["/api/computing/nothing/", "/api/computing/jobs/x/nothing/", "/api/"])
async def test_what_is_not_there_is_a_problem_too(platform, path):
    answer = await Consumer(platform).get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["error"] == answer.json()["detail"]


async def test_a_wrong_method_is_told_which_are_right(platform):
    answer = await Consumer(platform).get("/api/computing/submit-job/")
    assert (answer.status_code, answer.headers["allow"], answer.json()["code"]) == (405, "POST", "method_not_allowed")


async def test_an_unknown_job_is_404_everywhere(platform):
    owner = Consumer(platform)
    for name in (job_id(new_hold_id()), "job_nonsense", "7", "x" * 500, "job_%00"):
        for method, route in ROUTES:
            if "/jobs/{id}" in route:
                answer = await owner.call(method, route.replace("{id}", name))
                assert (answer.status_code, answer.json()["detail"]) == (404, "No Job matches the given query."), (method, route, name)


def test_nothing_public_needs_a_credential():
    assert {path for (_, path), (scope, _) in ROUTES.items() if scope is None} == PUBLIC
