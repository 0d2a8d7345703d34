"""No request to the webhooks' routes makes a 5xx, and every answer has the shape that is described."""

import asyncio
import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from serve_app.api.reference import OPENAPI
from tests.serve_app.webhooks.desk import PATH, add, call, chat

QUIET = settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))


async def test_no_generated_request_makes_a_5xx(platform, receiver):
    await add(platform, receiver.url)
    await chat(platform)
    schema = schemathesis.openapi.from_dict(OPENAPI)
    operations = [found.ok() for found in schema.get_all_operations()]
    ours = [one for one in operations if one.path.startswith(PATH)]

    def call_it(operation):
        @QUIET
        @given(case=operation.as_strategy())
        def requested(case):
            answer = case.call(base_url=platform.url, headers=platform.bearer, allow_redirects=False)
            assert answer.status_code < 500, (case.method, case.path, case.body, answer.text)

        requested()

    for operation in ours:
        await asyncio.to_thread(call_it, operation)
    assert len(ours) == 12


@pytest.mark.parametrize("field", ["\ud800", "a\x00", "x" * 10_000])
async def test_a_field_whose_name_is_no_text_is_refused(platform, field):
    answer = await call(platform, "POST", content=json.dumps({"url": "https://93.184.216.34/", field: 1}))
    assert answer.status_code == 400


async def test_each_answer_has_the_shape_that_is_described(platform, receiver):
    schemas = OPENAPI["components"]["schemas"]
    made = await add(platform, receiver.url)
    await chat(platform)
    queued = (await call(platform, "POST", f"{made['id']}/test/")).json()
    page = (await call(platform, "GET", "deliveries/")).json()
    shown = {
        "WebhookSecret": made, "Webhook": (await call(platform, "GET", made["id"])).json(), "Secret": (await call(platform, "GET", "secret/")).json(),
        "Delivery": queued, "DeliveryList": page,
    }  # fmt: skip
    for name, said in shown.items():
        assert set(said) == set(schemas[name]["properties"]) == set(schemas[name]["required"]), name
    assert {frozenset(row) for row in page["results"]} == {frozenset(schemas["Delivery"]["properties"])}
