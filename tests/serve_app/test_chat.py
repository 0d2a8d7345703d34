"""A chat's whole path: held, placed, recorded, run, relayed, finished, settled."""

import asyncio
import json
from contextlib import aclosing

import pytest

from serve_app.api.bodies import MAX_BODY_BYTES
from tests.scripted_runtime import words_of
from tests.waiting import until


def events_of(text):
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


async def test_a_plain_answer_tells_its_cost_and_its_job(platform):
    answer = await platform.chat()
    assert answer.status_code == 200
    said = answer.json()
    assert said["choices"][0]["message"]["content"] == "".join(words_of("hello there", 3))
    assert (said["usage"]["completion_tokens"], said["usage"]["cost"], said["usage"]["job"]) == (3, "1.00", answer.headers["x-gfe-job"])
    job = await platform.job(said["usage"]["job"])
    assert (job["status"], job["cost"], job["held"], job["attempts"], job["incomplete"]) == ("COMPLETED", "1.00", "1.00", 1, False)
    assert job["result"] == {"output": said["choices"][0]["message"]["content"]}
    assert (job["prompt"], job["node"]["id"], job["usage"]["completion_tokens"]) == ("hello there", "node_local", 3)
    assert await platform.settled() == "9.00"


async def test_a_stream_ends_with_usage_and_done_after_the_commit(platform):
    answer = await platform.chat(model="fake:words=16", stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    chunks = events_of(answer.text)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]) == "".join(
        words_of("hello there", 16)
    )
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["cost"] == "1.00"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert await platform.settled() == "9.00"


async def test_the_unmodified_openai_client_works(platform):
    import openai

    client = openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0)
    whole = await client.chat.completions.create(**platform.body())
    assert whole.usage.cost == "1.00"
    stream = await client.chat.completions.create(
        **platform.body(model="fake:words=16"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "".join(words_of("hello there", 16))
    assert chunks[-1].usage.cost == "1.00"
    assert "fake:words=3" in [model.id async for model in client.models.list()]
    with pytest.raises(openai.NotFoundError, match="is not offered"):
        await client.chat.completions.create(**platform.body(model="fake:wrds=3"))
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key="sk-no", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()
    await client.close()


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"messages": []}, 400, "too short"),
        ({"messages": "hello"}, 400, "`messages` must be an array"),
        ({"messages": [{"role": "user"}]}, 400, "messages[0].content"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "messages[0].role"),
        ({"n": 2}, 400, "`n` must be 1"),
        ({"temperature": "hot"}, 400, "`temperature`"),
        ({"max_tokens": 0}, 400, "`max_tokens`"),
        ({"max_tokens": 10_000_000}, 400, "`max_tokens`"),
        ({"max_tokens": 100_000}, 400, "context"),
        ({"stream": "yes"}, 400, "`stream`"),
        ({"stop": [1]}, 400, "`stop`"),
        ({"model": 7}, 400, "`model`"),
        ({"tool_choice": "required"}, 400, "tool_choice"),
        ({"response_format": {"type": "xml"}}, 400, "response_format"),
        ({"model": "fake:wrds=3"}, 404, "fake:words=3"),
    ],
)
async def test_bad_input_is_told_in_openais_shape_and_costs_nothing(platform, change, status, words):
    answer = await platform.http.post("/v1/chat/completions", json=platform.body() | change, headers=platform.bearer)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert words in error["message"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert (await platform.wallet())["balance"] == "10.00"


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"{nonsense", "not valid JSON"), (b"[]", "JSON object"), (b"", "missing request body"), (b'{"a":' * 40 + b"1" + b"}" * 40, "nested")],
)
async def test_broken_bodies_are_400(platform, body, words):
    answer = await platform.http.post("/v1/chat/completions", content=body, headers=platform.bearer)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


async def test_a_body_over_the_limit_is_413_while_reading(platform):
    answer = await platform.http.post("/v1/chat/completions", content=b"x" * (MAX_BODY_BYTES + 1), headers=platform.bearer)
    assert answer.status_code == 413


async def test_missing_mistyped_and_revoked_keys_get_three_sentences(platform):
    made = (await platform.ledger.http.post("/api/core/keys/", json={"name": "x"}, headers=platform.bearer)).json()
    await platform.ledger.http.post(f"/api/core/keys/{made['id']}/revoke/", headers=platform.bearer)
    mistyped = platform.key[:20] + ("a" if platform.key[20] != "a" else "b") + platform.key[21:]
    texts = []
    for key in (None, mistyped, made["key"]):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = await platform.http.post("/v1/chat/completions", json=platform.body(), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        texts.append(answer.json()["error"]["message"])
    assert texts[0] == "Authentication credentials were not provided."
    assert "mistyped" in texts[1]
    assert "revoked" in texts[2]


async def test_without_credit_there_is_402_with_figures_and_no_job(platform_with, database):
    import psycopg

    platform = await platform_with(credits="0.50")
    answer = await platform.chat()
    assert answer.status_code == 402
    error = answer.json()["error"]
    assert (error["code"], error["available"], error["required"]) == ("insufficient_funds", "0.50", "1.00")
    with psycopg.connect(database.admin_url) as admin:
        assert admin.execute("SELECT count(*) FROM serve_app.job").fetchone() == (0,)


async def test_twenty_at_once_against_five_credits_serve_exactly_five(platform_with):
    platform = await platform_with(credits="5.00")
    answers = await asyncio.gather(*(platform.chat() for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [402] * 15
    assert await platform.settled() == "0.00"


async def test_a_runtime_that_dies_in_mid_stream_ends_it_with_an_error_and_charges_no_flat_tariff(platform):
    answer = await platform.chat(model="fake:cut@2", stream=True)
    assert answer.status_code == 200
    assert "[DONE]" not in answer.text
    chunks = events_of(answer.text)
    assert chunks[-1]["error"]["code"] == "incomplete"
    job = await platform.job(answer.headers["x-gfe-job"])
    assert (job["status"], job["incomplete"], job["cost"]) == ("FAILED", True, "0.00")
    assert job["result"]["output"] == "".join(words_of("hello there", 2))
    assert await platform.settled() == "10.00"
    assert (await platform.chat()).status_code == 200


async def test_a_node_that_fails_before_the_first_token_is_replaced_by_another(platform_with):
    platform = await platform_with(nodes=2)
    platform.scripts[0].is_down = True
    for _ in range(4):
        answer = await platform.chat()
        assert answer.status_code in {200, 502}, answer.text
        if answer.status_code == 200:
            job = await platform.job(answer.headers["x-gfe-job"])
            assert job["node"]["id"] == "node_1"


async def test_three_failures_end_the_job_and_give_the_credit_back(platform):
    answer = await platform.chat(model="fake:500")
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "runtime_failed"
    assert len(platform.scripts[0].requests) == 3
    assert await platform.settled() == "10.00"


async def test_a_client_that_leaves_before_the_first_token_pays_nothing(platform):
    task = asyncio.create_task(platform.chat(model="fake:hang@0", stream=True))
    await until(lambda: platform.scripts[0].running)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not platform.scripts[0].running)
    assert await platform.settled() == "10.00"


async def test_a_client_that_leaves_in_mid_stream_pays_for_what_it_got(platform):
    async with platform.http.stream(
        "POST", "/v1/chat/completions", json=platform.body(model="fake:hang@2", stream=True), headers=platform.bearer
    ) as answer:
        async with aclosing(answer.aiter_lines()) as lines:
            async for line in lines:
                if '"content": "' in line:
                    break
        name = answer.headers["x-gfe-job"]
    await until(lambda: not platform.scripts[0].running)
    assert await platform.settled() == "9.00"
    job = await platform.job(name)
    assert (job["status"], job["cost"], job["incomplete"]) == ("CANCELED", "1.00", False)


async def test_a_job_waits_for_a_slot_instead_of_failing(platform_with):
    platform = await platform_with(slots=1)
    answers = await asyncio.gather(*(platform.chat(model="fake:drip=0.1", max_tokens=2) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3


async def test_repeating_a_request_with_its_key_answers_the_stored_job(platform):
    key = {"Idempotency-Key": "order-1"}
    first = await platform.chat(headers=key)
    again = await platform.chat(headers=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["choices"][0]["message"] == first.json()["choices"][0]["message"]
    assert again.json()["usage"]["job"] == first.json()["usage"]["job"]
    other = await platform.chat(text="another", headers=key)
    assert other.status_code == 422
    assert await platform.settled() == "9.00"


async def test_somebody_elses_job_is_403_an_unknown_one_404_an_anonymous_call_401(platform):
    from ledger.db import connect
    from ledger.identity.api_keys import insert_key, new_key
    from ledger.identity.people import ALL_SCOPES, register

    name = (await platform.chat()).headers["x-gfe-job"]
    connection = await connect(platform.ledger.context.settings.database_url, name="test")
    bob, key = await register(connection, "bob", role="USER", welcome=0, open_jobs=1), new_key()
    await insert_key(connection, key, bytes.fromhex(platform.ledger.context.settings.secret("api_key_pepper")), bob.id, "k", ALL_SCOPES)
    await connection.close()
    for path, headers, status, text in (
        (f"/api/computing/jobs/{name}/", {"Authorization": f"Bearer {key}"}, 403, "Unauthorized"),
        ("/api/computing/jobs/job_01M86ED107E9D9TSFT73TKMWP8/", platform.bearer, 404, "No Job matches the given query."),
        ("/api/computing/jobs/7", platform.bearer, 404, "No Job matches the given query."),
        (f"/api/computing/jobs/{name}", {}, 401, "Authentication credentials were not provided."),
    ):
        answer = await platform.http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (status, text)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_hold_that_never_became_a_job_is_voided(platform, monkeypatch):
    from serve_app import sweeper

    await platform.ledger.client.place_hold(platform.ledger.hold())
    await sweeper.sweep_once(platform.context.store, platform.ledger.client)
    assert (await platform.wallet())["held"] == "1.00", "a young hold may still become a job"
    monkeypatch.setattr(sweeper, "HOLD_WITHOUT_JOB_S", 0)
    await sweeper.sweep_once(platform.context.store, platform.ledger.client)
    assert (await platform.wallet())["held"] == "0.00"


async def test_while_the_ledger_is_away_streams_end_well_and_new_jobs_get_503(platform, monkeypatch):
    from ledger.client import LedgerUnavailable

    async def away(*_args, **_kwargs):
        raise LedgerUnavailable

    real = platform.ledger.client._ask
    task = asyncio.create_task(platform.chat(model="fake:drip=0.1", max_tokens=5, stream=True))
    await until(lambda: platform.scripts[0].running)
    monkeypatch.setattr(platform.ledger.client, "_ask", away)
    refused = await platform.chat()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert (await task).text.endswith("data: [DONE]\n\n")
    monkeypatch.setattr(platform.ledger.client, "_ask", real)
    await platform.context.settlement.settle_all(await platform.context.store.owed(0))
    assert await platform.settled() == "9.00"


async def test_the_page_and_readiness_tell_the_parts(platform):
    page = await platform.http.get("/", headers={"Accept": "text/html"})
    assert "GPU-For-Everyone" in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    ready = (await platform.http.get("/readyz")).json()
    assert ready["checks"] == {"database": "ok", "ledger": "ok", "dispatcher": "ok", "nodes": "ok"}


async def test_what_is_left_of_the_limit_per_minute_is_told(platform_with):
    platform = await platform_with(ledger_settings={"submits_per_minute": 2})
    first, second, third = [await platform.chat() for _ in range(3)]
    assert [(answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"]) for answer in (first, second, third)] == [
        ("2", "1"), ("2", "0"), ("2", "0"),
    ]  # fmt: skip
    assert (third.status_code, third.headers["retry-after"], third.json()["error"]["code"]) == (429, "30", "rate_limited")
