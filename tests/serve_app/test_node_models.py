"""Operators load, unload and pull models through the API and the command line; the catalog says what may be offered."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from cluster.service_tokens import ServiceTokens
from cluster.worker import Care
from ledger.audit_log import Origin
from ledger.operators.catalog import CatalogModel, add_model, remove_model
from serve_app.catalog import CatalogMode
from serve_app.cli import models as command
from serve_app.cli.http import Installation
from serve_app.settings import ServeSettings
from tests.ledger.people import bearer, somebody
from tests.scripted_models import shaped

PATH = "/api/admin/nodes/node_local/models/"


@pytest.fixture
async def platform(platform_with):
    running = await platform_with(credits="100.00")
    running.scripts[0].models |= {"cold:1b": shaped("cold:1b", "c" * 64)}
    await running.workers[0].refresh()
    return running


def token(platform):
    return ServiceTokens((platform.ledger.folder / "service_serve.pem").read_bytes(), "gfe").mint("operator")


async def operate(platform, action, model, **more):
    answer = await platform.http.post(PATH, json={"action": action, "model": model, **more}, headers=bearer(token(platform)))
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def row_of(platform, model):
    row = (await platform.http.get("/api/admin/nodes/node_local/", headers=bearer(token(platform)))).json()
    return next((one for one in row["models"] if one["name"] == model), None)


async def list_it(platform, name, digest):
    """Take a model into the catalog; the replica hears of it."""
    model = CatalogModel(name=name, digest=digest, source="a test", license="MIT", size_bytes=1, context_tokens=8192)
    await platform.ledger.context.database.transact(lambda connection: add_model(connection, model, Origin("test")))
    await platform.context.feed.poll()


# --- operations -------------------------------------------------------------------------------------------------------------------------


async def test_an_operator_loads_and_unloads_a_model_and_sees_what_it_took(platform):
    before = await row_of(platform, "cold:1b")
    assert (before["loaded"], before["took_bytes"], before["fits"]) == (False, None, True)
    steps = await operate(platform, "load", "cold:1b")
    assert steps[-1] == {"status": "success"}
    assert "is loaded, took" in steps[-2]["status"]
    after = await row_of(platform, "cold:1b")
    assert after["loaded"]
    assert after["needed_bytes"] > 0
    assert after["took_bytes"] > 0
    assert (await operate(platform, "unload", "cold:1b"))[-1] == {"status": "success"}
    assert not (await row_of(platform, "cold:1b"))["loaded"]


async def test_a_cold_model_is_warmed_up_by_its_first_job(platform):
    answer = await platform.chat("cold:1b")
    assert answer.status_code == 200
    assert platform.scripts[0].loads == ["cold:1b"]
    assert (await row_of(platform, "cold:1b"))["loaded"]


async def test_what_cannot_be_done_ends_with_an_error_line_and_a_remedy(platform):
    last = (await operate(platform, "load", "other:1b"))[-1]
    assert last == {"error": "n does not have other:1b", "hint": "pull it there first, or name another node"}
    assert "does not fetch models" in (await operate(platform, "pull", "smollm2:135m"))[-1]["error"]


async def test_a_pulled_model_is_offered(platform):
    platform.workers[0]._care = Care(may_pull=True)
    steps = await operate(platform, "pull", "smollm2:135m")
    assert steps[-1] == {"status": "success"}
    assert (await platform.chat("smollm2:135m")).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 400), (b'{"action":"load"}', 400), (b'{"action":"eat","model":"m"}', 400), (b"x" * 5000, 413)],
)
async def test_a_bad_question_is_refused(platform, body, status):
    assert (await platform.http.post(PATH, content=body, headers=bearer(token(platform)))).status_code == status


async def test_nobody_else_loads_models(platform):
    ada = await somebody(platform.ledger)
    for headers in ({}, platform.bearer, ada.headers, bearer("a.b.c")):
        answer = await platform.http.post(PATH, json={"action": "load", "model": "cold:1b"}, headers=headers)
        assert answer.status_code in {401, 403}
    unknown = await platform.http.post(PATH.replace("node_local", "nobody"), json={}, headers=bearer(token(platform)))
    assert unknown.status_code == 404
    assert platform.scripts[0].loads == []


# --- the command line -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gfe(platform, monkeypatch):
    here = Installation(platform.url, "", token(platform)), f"{platform.url}/api/admin/nodes/"
    monkeypatch.setattr(command, "operators", lambda: here)

    async def run(*arguments):
        return await asyncio.to_thread(CliRunner().invoke, command.app, list(arguments))

    return run


async def test_the_command_shows_progress_in_words_and_as_json(gfe, platform):
    loaded = await gfe("load", "--node", "n", "cold:1b")
    assert (loaded.exit_code, loaded.stdout) == (0, "cold:1b is loaded, took 0.13 GiB of 0.21 GiB expected\n")
    assert "loading cold:1b" in loaded.stderr
    unloaded = await gfe("unload", "--node", "node_local", "--json", "cold:1b")
    assert json.loads(unloaded.stdout.splitlines()[-1]) == {"status": "success"}
    listed = await gfe("list")
    assert "n: cold:1b, 2048 tokens, not loaded, needs 0.21 GiB, cccccccccccc" in listed.stdout
    rows = json.loads((await gfe("list", "--node", "n", "--json")).stdout)
    assert {row["node_id"] for row in rows} == {"node_local"}


async def test_the_command_ends_with_1_and_a_hint_when_it_cannot(gfe, platform):
    platform.scripts[0].models |= {"big:70b": shaped("big:70b", "b" * 64, size_bytes=10**12)}
    platform.workers[0]._care = Care(free_memory=lambda: 2**30)
    refused = await gfe("load", "--node", "n", "big:70b")
    assert refused.exit_code == 1
    assert "error: big:70b needs 931." in refused.stderr
    assert "hint: unload another model first, or force it" in refused.stderr
    assert (await gfe("load", "--force", "--node", "n", "big:70b")).exit_code == 0
    unknown = await gfe("load", "--node", "nobody", "cold:1b")
    assert (unknown.exit_code, "No node 'nobody' is here now." in unknown.stderr) == (1, True)


# --- the catalog ------------------------------------------------------------------------------------------------------------------------


async def test_where_the_catalog_is_the_law_only_listed_models_are_offered_by_their_digest(platform):
    platform.context.feed.catalog.mode = CatalogMode.APPROVED
    await platform.context.feed.poll()
    refused = await platform.chat("cold:1b")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    await list_it(platform, "cold:1b", "d" * 64)
    assert (await platform.chat("cold:1b")).status_code == 404
    assert (await platform.http.get("/v1/models/cold:1b", headers=platform.bearer)).status_code == 404
    await list_it(platform, "cold:1b", "c" * 64)
    assert (await platform.chat("cold:1b")).status_code == 200
    listed = (await platform.http.get("/v1/models", headers=platform.bearer)).json()["data"]
    assert [row["id"] for row in listed] == ["cold:1b"]
    await platform.ledger.context.database.transact(lambda connection: remove_model(connection, "cold:1b", Origin("test")))
    await platform.context.feed.poll()
    assert (await platform.chat("cold:1b")).status_code == 404
    assert await platform.settled() == "99.00"


async def test_where_the_catalog_is_a_hint_everything_is_offered(platform):
    await platform.context.feed.poll()
    assert (await platform.chat("cold:1b")).status_code == 200


async def test_only_names_of_the_catalog_are_pulled_where_it_is_the_law(platform):
    platform.workers[0]._care = Care(may_pull=True)
    platform.context.feed.catalog.mode = CatalogMode.APPROVED
    await platform.context.feed.poll()
    asked = {"action": "pull", "model": "other:1b"}
    refused = await platform.http.post(PATH, json=asked, headers=bearer(token(platform)))
    assert (refused.status_code, refused.json()["code"]) == (409, "model_operation_refused")
    assert "not in the catalog" in refused.json()["detail"]
    assert (await operate(platform, "pull", "smollm2:135m"))[-1] == {"status": "success"}  # listed from the beginning


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({}, CatalogMode.OPEN),
        ({"env": "production"}, CatalogMode.APPROVED),
        ({"env": "production", "catalog": "open"}, CatalogMode.OPEN),
        ({"catalog": "approved"}, CatalogMode.APPROVED),
    ],
)
def test_the_catalog_is_the_law_in_production_unless_somebody_says_otherwise(given, mode, tmp_path):
    settings = ServeSettings(secrets_dir=tmp_path, ledger_socket=tmp_path / "s", **given)
    assert settings.catalog_mode is mode
    assert ServeSettings(**settings.as_arguments()).catalog_mode is mode
