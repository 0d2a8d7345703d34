"""`/api/computing/webhooks/`: endpoints, secrets, tests, the log."""

import asyncio
import logging

import psycopg
import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from serve_app.webhooks import delivering, outbox, sending
from tests.ledger.people import bearer, somebody
from tests.serve_app.webhooks.desk import PATH, add, call, chat, deliver, deliveries, replica, shift
from tests.serve_app.webhooks.receiver import verified


async def test_an_endpoint_is_made_listed_changed_and_removed(platform, receiver):
    made = await add(platform, receiver.url, description="orders")
    assert made["id"].startswith("wh_")
    assert (made["events"], made["enabled"], made["key"], made["include_result"]) == (
        ["job.succeeded", "job.failed", "job.canceled"],
        True,
        None,
        False,
    )
    shown = (await call(platform, "GET", made["id"])).json()
    assert shown == {name: made[name] for name in shown}
    assert not {"secret", "secret_version"} & set(shown)
    assert (await call(platform, "GET")).json() == {"results": [shown], "next": None}
    changed = (
        await call(platform, "PATCH", f"{made['id']}/", json={"events": ["job.failed"], "include_result": True, "enabled": False})
    ).json()
    assert (changed["events"], changed["include_result"], changed["enabled"], changed["disabled_reason"], changed["description"]) == (
        ["job.failed"], True, False, "Disabled by its owner.", "orders",
    )  # fmt: skip
    assert (await call(platform, "DELETE", f"{made['id']}/")).status_code == 204
    assert (await call(platform, "GET", f"{made['id']}/")).status_code == 404
    assert (await call(platform, "DELETE", f"{made['id']}/")).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"), ({"url": 5}, "url"), ({"url": "https://93.184.216.34/", "events": []}, "events"), ({"url": "https://93.184.216.34/", "events": ["job.x"]}, "events"),
        ({"url": "https://93.184.216.34/", "secret": "mine"}, "secret"), ({"url": "https://93.184.216.34/", "description": "x" * 201}, "description"),
        ({"url": "https://93.184.216.34/" + "x" * 2000}, "url"), ({"url": "https://93.184.216.34/", "key": "a\0b"}, "key"), ({"url": "https://93.184.216.34/", "events": [{}]}, "events"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named(platform, body, field):
    answer = await call(platform, "POST", json=body)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


async def test_an_account_has_so_many_endpoints_and_no_more_however_many_are_added_at_once(platform_with):
    platform = await platform_with()
    platform.context.settings = platform.context.settings.model_copy(update={"webhook_endpoints": 3})
    answers = await asyncio.gather(*(call(platform, "POST", json={"url": f"https://93.184.216.34/{n}"}) for n in range(8)))
    assert sorted(one.status_code for one in answers) == [201] * 3 + [409] * 5
    assert {one.json()["code"] for one in answers if one.status_code == 409} == {"too_many_webhooks"}
    first = (await call(platform, "GET")).json()["results"][0]
    await call(platform, "DELETE", f"{first['id']}/")
    same = await call(platform, "POST", json={"url": (await call(platform, "GET")).json()["results"][0]["url"]})
    assert (same.status_code, same.json()["code"]) == (409, "webhook_exists")
    assert (await call(platform, "POST", json={"url": first["url"]})).status_code == 201


async def test_another_accounts_webhooks_are_unknown_and_scopes_are_asked_for(platform, receiver):
    hook = await add(platform, receiver.url)
    await chat(platform)
    (line,) = await deliveries(platform)
    ada = await somebody(platform.ledger)
    reader = bearer(await ada.key(scopes=["jobs:read"]))
    routes = [
        ("GET", f"{hook['id']}/", 404), ("PATCH", f"{hook['id']}/", 404), ("DELETE", f"{hook['id']}/", 404), ("POST", f"{hook['id']}/rotate/", 404),
        ("POST", f"{hook['id']}/test/", 404), ("GET", f"{hook['id']}/deliveries/", 404), ("POST", f"deliveries/{line['id']}/resend/", 404), ("GET", "nonsense/", 404),
    ]  # fmt: skip
    for method, path, status in routes:
        answer = await call(platform, method, path, headers=ada.headers, json={"description": "mine"} if method == "PATCH" else None)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), (method, path)
    assert (await call(platform, "GET", "deliveries/", headers=ada.headers)).json()["results"] == []
    for method, path in (
        ("POST", ""),
        ("GET", "secret/"),
        ("POST", "secret/rotate/"),
        ("DELETE", f"{hook['id']}/"),
        ("POST", f"{hook['id']}/test/"),
    ):
        answer = await call(platform, method, path, headers=reader, json={} if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted"), (method, path)
    assert (await call(platform, "GET", headers=reader)).status_code == 200
    assert (await platform.http.get(PATH)).status_code == 401


async def test_a_rotated_secret_and_the_one_before_it_both_verify_for_24_hours(platform, database, receiver):
    hook = await add(platform, receiver.url)
    rotated = (await call(platform, "POST", f"{hook['id']}/rotate/")).json()
    assert rotated["secret"] != hook["secret"]
    async with replica(platform, database, runs=False) as deliverer:
        await chat(platform)
        await deliver(deliverer)
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            admin.execute("UPDATE serve_app.webhook SET rotated_at = rotated_at - interval '24 hours'")
        await chat(platform)
        await deliver(deliverer)
    first, second = receiver.got
    assert verified(hook["secret"], first) == verified(rotated["secret"], first)
    assert verified(rotated["secret"], second)
    with pytest.raises(WebhookVerificationError):
        verified(hook["secret"], second)


@pytest.mark.usefixtures("delivering_replica")
async def test_a_test_event_is_sent_when_it_is_asked_for(platform, receiver):
    hook = await add(platform, receiver.url)
    queued = await call(platform, "POST", f"{hook['id']}/test/")
    assert (queued.status_code, queued.json()["type"], queued.json()["job"]) == (202, "webhook.test", None)
    (got,) = await receiver.heard(1)
    assert verified(hook["secret"], got)["data"] == {"webhook": hook["id"]}
    assert receiver.ids == [queued.json()["id"]]


async def test_a_test_that_waits_already_is_not_queued_twice(platform, receiver):
    hook = await add(platform, receiver.url)
    first, second = [(await call(platform, "POST", f"{hook['id']}/test/")).json() for _ in range(2)]
    assert first == second


async def test_the_log_is_read_by_pages_that_neither_repeat_nor_hide(platform, receiver):
    await add(platform, receiver.url)
    for _ in range(5):
        await chat(platform)
    whole = [one["id"] for one in await deliveries(platform)]
    seen, path = [], "deliveries/?limit=2"
    while True:
        page = (await call(platform, "GET", path)).json()
        seen += [one["id"] for one in page["results"]]
        if page["next"] is None:
            break
        await chat(platform)
        path = f"deliveries/?limit=2&cursor={page['next']}"
    assert seen == whole
    for query in ("limit=0", "limit=101", "limit=x", "cursor=x", "cursor=WzBd", "cursor=é"):
        answer = await call(platform, "GET", f"deliveries/?{query}")
        assert (answer.status_code, list(answer.json()["errors"])) == (400, [query.split("=")[0]]), query


async def test_secrets_stand_in_no_log_line_no_row_and_no_argument(platform, database, receiver, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    hook = await add(platform, receiver.url)
    receiver.answers = [500]
    async with replica(platform, database, runs=False) as deliverer:
        await chat(platform)
        for _ in range(2):
            await deliver(deliverer)
            shift(database, 3600)
    account = (await call(platform, "GET", "secret/")).json()["secret"]
    root = platform.settings.secret("webhook_root").decode()
    with psycopg.connect(database.admin_url) as admin:
        rows = [
            admin.execute(f"SELECT t::text FROM serve_app.{table} t").fetchall()
            for table in ("webhook", "webhook_account", "webhook_event", "job")
        ]
    printed = capsys.readouterr()
    places = caplog.text + printed.out + printed.err + str(rows) + str(platform.settings.as_arguments()) + repr(platform.context.webhooks)
    assert len(receiver.got) == 2
    for secret in (hook["secret"], account, root):
        assert secret.removeprefix("whsec_") not in places


def test_the_loops_limits_fit_together():
    assert outbox.LEASE_S > sending.ATTEMPT_LIMIT_S + 10
    assert delivering.CLOSE_LIMIT_S > sending.ATTEMPT_LIMIT_S
