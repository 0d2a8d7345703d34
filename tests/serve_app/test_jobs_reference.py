"""The OpenAPI description of the jobs API is true, and no input makes a 5xx (D21)."""

import asyncio
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from serve_app.api import jobs, live, nodes, provider_stats, public, receipts, submitting, webhooks
from serve_app.api.reference import OPENAPI
from tests.serve_app.consumers import Consumer

EXAMPLES = 20
QUIET = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
TRUE = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


def described():
    return {
        (method.upper(), path) for path, methods in OPENAPI["paths"].items() for method in methods if path.startswith("/api/computing/")
    }


def test_every_route_is_described_and_nothing_else():
    found = {
        (method, route.path)
        for module in (jobs, live, nodes, provider_stats, public, receipts, submitting, webhooks)
        for route in module.ROUTES
        for method in getattr(route, "methods", set()) - {"HEAD"}
        if route.path.startswith("/api/computing/") and route.path.endswith("/")
    }
    assert described() == found


def test_every_money_field_is_text():
    """D9."""

    def fields(schema):
        for name, inner in schema.get("properties", {}).items():
            yield name, inner
            yield from fields(inner)
        for inner in (*([schema["items"]] if "items" in schema else ()), *schema.get("oneOf", ())):
            yield from fields(inner)

    money = {"cost", "held", "max_cost", "job", "prompt_per_million", "completion_per_million"}
    found = [
        (name, inner)
        for title, schema in OPENAPI["components"]["schemas"].items()
        if not title.startswith(("Delivery", "Receipt"))  # there a `job` is an id
        for name, inner in fields(schema)
        if name in money
    ]
    assert {name for name, _ in found} == money
    for _, inner in found:
        shape = next((one for one in inner.get("oneOf", ()) if one.get("type") != "null"), inner)
        assert (shape["type"], shape["pattern"]) == ("string", r"^-?\d+\.\d{2,6}$")


@pytest.mark.slow
@pytest.mark.parametrize(
    "operation", sorted(one for one in described() if "/webhooks/" not in one[1] and "/updates/" not in one[1])
)  # theirs: webhooks/test_webhook_requests.py
async def test_no_request_makes_a_5xx_and_each_answer_is_as_described(platform_with, operation):
    """D21."""
    platform = await platform_with(credits="1000.00")
    await platform.context.feed.poll()
    owner = Consumer(platform)
    for n in range(3):
        await owner.ended(await owner.submitted(f"job {n}"))
    loop = asyncio.get_running_loop()

    def fuzz():
        schema = schemathesis.openapi.from_url(f"{platform.url}/openapi.json")
        method, path = operation
        found = next(one.ok() for one in schema.get_all_operations() if (one.ok().method.upper(), one.ok().path) == (method, path))
        checks = [CHECKS.get_one(name) for name in TRUE]
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @QUIET
            @given(case=found.as_strategy(generation_mode=mode))
            def call(case):
                answer = case.call(base_url=platform.url, headers={"Authorization": f"Bearer {platform.key}"}, allow_redirects=False)
                case.validate_response(answer, checks=checks)

            with suppress(Unsatisfiable):  # nothing about it can be wrong
                call()

    await loop.run_in_executor(None, fuzz)


async def test_real_answers_are_as_described(platform_with):
    import jsonschema

    platform = await platform_with()
    await platform.context.feed.poll()
    owner = Consumer(platform)
    job = (await owner.submit()).json()
    failed = await owner.submitted(model="fake:500")
    waiting = await owner.submitted(model="fake:hang@0")
    for name in (job["job_id"], failed):
        await owner.ended(name)

    def fits(said, schema):
        jsonschema.validate(said, {"$ref": f"#/components/schemas/{schema}", "components": OPENAPI["components"]})

    async def get(path, **query):
        return (await owner.get(f"/api/computing/{path}", params=query)).json()

    fits(job, "Submitted")
    for name in (job["job_id"], failed, waiting):
        fits(await owner.job(name), "Job")
    fits(await owner.jobs(limit=2), "JobPage")
    fits((await owner.call("POST", "/api/computing/quote/", json={"prompt": "x"})).json(), "Quote")
    for path, schema in (("models/", "Models"), ("stats/", "Stats"), ("provider-stats/", "ProviderStats"), ("nodes/", "NodePage")):
        fits(await get(path), schema)
    fits((await owner.call("DELETE", f"/api/computing/jobs/{waiting}/")).json(), "Job")
    fits(await get("provider-stats/", days="abc"), "Problem")
    await owner.ended(waiting)
