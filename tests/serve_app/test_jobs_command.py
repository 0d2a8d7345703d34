"""`gfe jobs` against the running API: for people, and with `--json` for programs."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from serve_app.cli import jobs as command
from tests.serve_app.consumers import Consumer


@pytest.fixture
async def platform(platform_with):
    running = await platform_with()
    await running.context.feed.poll()
    return running


@pytest.fixture
def gfe(platform, monkeypatch):
    monkeypatch.setenv("GFE_API_URL", platform.url)
    monkeypatch.setenv("GFE_CONSOLE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GFE_API_KEY", platform.key)

    async def run(*arguments, given=None):
        return await asyncio.to_thread(CliRunner().invoke, command.app, list(arguments), given)

    return run


async def test_a_job_is_submitted_shown_and_listed(gfe, platform):
    submitted = await gfe("submit", "say hello", "--model", "fake:words=3")
    name = submitted.stdout.strip()
    assert (submitted.exit_code, submitted.stderr) == (0, f"held 1.00\n\nhint: `gfe jobs {name}` shows how it is\n")
    await Consumer(platform).ended(name)
    shown = await gfe(name)
    assert "status  COMPLETED" in shown.stdout
    listed = await gfe("list")
    header, row = listed.stdout.splitlines()
    assert header.split() == ["job", "status", "created", "model", "cost", "prompt"]
    assert row.startswith(f"{name}  COMPLETED")
    assert row.endswith("1.00  say hello")


async def test_programs_get_what_the_api_says(gfe, platform):
    submitted = json.loads((await gfe("submit", "hello", "--json")).stdout)
    assert set(submitted) == {"status", "job_id", "held"}
    row = await Consumer(platform).ended(submitted["job_id"])
    assert json.loads((await gfe("show", submitted["job_id"], "--json")).stdout)["id"] == row["id"]
    listed = json.loads((await gfe("list", "--status", "completed", "--json")).stdout)
    assert [one["id"] for one in listed["results"]] == [row["id"]]
    assert json.loads((await gfe("list", "--status", "failed", "--json")).stdout)["results"] == []
    assert json.loads((await gfe("quote", "hello", "--max-tokens", "5", "--json")).stdout)["max_tokens"] == 5


async def test_a_prompt_comes_from_standard_input(gfe, platform):
    name = (await gfe("submit", "-", given="from a pipe")).stdout.strip()
    assert (await Consumer(platform).job(name))["prompt"] == "from a pipe"


async def test_the_same_key_is_the_same_job(gfe):
    assert (await gfe("submit", "hi", "--key", "k")).stdout == (await gfe("submit", "hi", "--key", "k")).stdout


async def test_a_long_list_goes_on_where_it_ended(gfe, platform):
    consumer = Consumer(platform)
    names = [await consumer.submitted(f"job {n}") for n in range(3)]
    page = json.loads((await gfe("list", "--limit", "2", "--json")).stdout)
    rest = json.loads((await gfe("list", "--limit", "2", "--cursor", page["next"], "--json")).stdout)
    assert [row["id"] for row in page["results"] + rest["results"]] == names[::-1]
    assert f"--cursor {page['next']}" in (await gfe("list", "--limit", "2")).stderr


async def test_a_job_is_canceled_once(gfe, platform):
    consumer = Consumer(platform)
    name = await consumer.submitted(model="fake:hang@0")
    await consumer.reaches(name, "RUNNING")
    assert (await gfe("cancel", name)).stdout == f"{name} was RUNNING and is being canceled\n"
    await consumer.ended(name)
    again = await gfe("cancel", name)
    assert (again.exit_code, again.stderr) == (1, "error: This job has ended; it cannot be canceled any more.\n")


async def test_a_quote_is_told_in_words(gfe):
    said = await gfe("quote", "hello", "--model", "fake:words=3")
    assert said.stdout == (
        "model   fake:words=3\ncost    at most 1.00\nprice   1.00 per job, 0.00 and 0.00 per million tokens read and written\n"
        "wait    about 0 s, 0 before it\n"
    )


async def test_a_refusal_is_one_line(gfe):
    said = await gfe("submit", "hi", "--model", "nosuch:1b")
    assert (said.exit_code, said.stderr.startswith('error: Model "nosuch:1b" is not offered.')) == (1, True)
