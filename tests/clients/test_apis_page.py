"""docs/concepts/apis.md: its examples run, its refusals are what the API says, its limits are the ones in force."""

import json
import re

import pytest

from cluster.dialects.openai import MAX_INPUTS, MAX_MESSAGES, MAX_STOPS
from cluster.dialects.tools import MAX_IMAGES, MAX_TOOLS
from cluster.limits import Limits
from ledger.settings import LedgerSettings
from serve_app.api.bodies import MAX_BODY_BYTES, MAX_DEPTH
from serve_app.asking import MAX_KEY_LENGTH, MAX_PROMPT_BYTES
from serve_app.settings import ServeSettings
from tests.clients import apart
from tests.clients.conftest import HELLO, said
from tests.clients.examples import offer, run

PAGE = (apart.ROOT / "docs" / "concepts" / "apis.md").read_text()
MARK = "<!-- run by tests/clients/test_apis_page.py -->\n"
EXAMPLES = re.findall(MARK + r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
ANSWER = said(8, "Say hello").split()
BODIES = {
    "/v1/completions": {"prompt": "hello there"},
    "/v1/embeddings": {"model": "fake:embeds"},
    "/v1/responses": {"input": "hello there"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 10},
    "/v1/chat/completions": {"messages": HELLO},
    "/api/generate": {"prompt": "hello there"},
}


@pytest.fixture(scope="module")
async def offered(platform):
    await offer(platform)
    return platform


def example(language, n=0):
    return [code for kind, code in EXAMPLES if kind == language][n]


def test_every_example_of_the_page_is_run_here():
    assert [kind for kind, _ in EXAMPLES] == ["sh", "python", "javascript", "sh"]
    assert PAGE.count("```") == 2 * len(EXAMPLES)


async def test_the_first_requests_by_curl_in_three_languages(offered, tmp_path):
    told = await run(offered, "sh", example("sh"), tmp_path)
    assert [told.count(word) for word in ANSWER] == [3] * 8
    assert told.count('"1.00"') == 3


@pytest.mark.parametrize("language", ["python", "javascript"])
async def test_the_example_in_another_language(offered, tmp_path, language):
    told = await run(offered, language, example(language), tmp_path)
    assert re.fullmatch(rf"{' '.join(ANSWER)} *\njob_\w+ cost 1\.00\n", told)


async def test_the_example_of_a_request_that_is_sent_again(offered, tmp_path, spent):
    told = (await run(offered, "sh", example("sh", 1), tmp_path)).lower()
    assert (told.count("200 ok"), told.count("idempotent-replayed: true")) == (2, 1)
    assert len(set(re.findall(r"x-gfe-job: (\w+)", told))) == 1
    assert await spent() == (1.0, 1)


REFUSALS = re.findall(r"^\| `(/\S+)` \| `(\{.*\})` \| (.+) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("path", "sent", "answer"), REFUSALS, ids=[f"{path} {sent[:30]}" for path, sent, _ in REFUSALS])
async def test_what_the_page_says_is_refused_is_refused_in_these_words(platform, spent, path, sent, answer):
    body = {"model": "fake:words=3", "stream": False} | BODIES.get(path, {}) | json.loads(sent)
    told = await platform.http.post(path, json=body, headers=platform.bearer)
    error = told.json()["error"]
    assert (error if isinstance(error, str) else error["message"]) == answer.replace("smollm2:135m", "fake:words=3")
    assert told.status_code == {"/api/pull": 500, "/api/create": 403}.get(path, 400)
    assert await spent() == (0.0, 0)


def test_the_limits_are_the_ones_in_force():
    rows = dict(re.findall(r"^\| (.+) \| (.+) \|$", PAGE.split("## Limits")[1], re.MULTILINE))
    job, ledger, serve = Limits(), LedgerSettings.model_fields, ServeSettings.model_fields
    assert rows["body"] == f"{MAX_BODY_BYTES // 2**20} MiB, nested {MAX_DEPTH} deep"
    assert rows["prompt"] == f"{MAX_PROMPT_BYTES:,} bytes, {MAX_MESSAGES} messages, {MAX_TOOLS} tools, {MAX_IMAGES} images"
    assert f"{serve['max_tokens'].default:,} tokens" in rows["answer"]
    assert (rows["stop strings"], rows["texts to embed"]) == (str(MAX_STOPS), f"{MAX_INPUTS:,}")
    assert rows["`Idempotency-Key`"] == f"{MAX_KEY_LENGTH} characters"
    assert rows["job"] == f"{job.first_token_s:g} s to the first token, {job.idle_s:g} s between tokens, {job.total_s:g} s in all"
    assert rows["account"] == f"{ledger['open_jobs'].default} open jobs, {ledger['submits_per_minute'].default} new ones per minute"
