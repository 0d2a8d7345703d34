"""Every route of both ports, with every kind of caller: nobody gets more than what the route declares."""

import re

import pytest

from ledger.identity.people import ALL_SCOPES, OPERATOR_SCOPE
from tests.ledger.people import PASSWORD, bearer, sign_in, somebody

PUBLIC = {
    "get_health", "get_config", "get_jwks", "register", "sign_in", "refresh", "sign_out", "ask_for_reset", "reset_password", "verify_email",
    "enroll_agent", "make_agent_nonce", "make_agent_access", "list_prices", "quote", "receive_payment_event", "receive_mock_event",
    "begin_sign_in", "end_journey", "finish_sign_in",
}  # fmt: skip
AGENTS = {"get_agent_status"}  # by the token of an agent alone: nobody else's credential is one
IDS = {
    "key_id": "abcdefgh", "node_id": "node_nobody", "token_id": "enr_nobody", "transaction_id": "dep_01KB0000000000000000000000",
    "gateway": "nobody", "provider": "nobody", "deposit_id": "dep_01KB0000000000000000000000", "user_id": "user_01KB0000000000000000000000",
    "job_id": "job_01KB0000000000000000000000", "withdrawal_id": "wd_01KB0000000000000000000000", "correction_id": "cor_01KB0000000000000000000000",
    "name": "nobody:1b", "appeal_id": "appeal_01KB0000000000000000000000",
    "session_id": "ses_01KB0000000000000000000000", "tool": "ray",
}  # fmt: skip


def routes_of(ledger):
    app = ledger.http._transport.app
    seen = {}
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            seen[method.upper(), path] = operation
    return seen


def path_of(path):
    return re.sub(r"\{(\w+)\}", lambda match: IDS[match[1]], path)


@pytest.fixture
async def callers(ledger):
    """Credentials by kind of caller."""
    from ledger.audit_log import Origin
    from ledger.identity.passwords import Passwords
    from ledger.operators import people

    ada, eve = await somebody(ledger, "ada"), await somebody(ledger, "eve")
    await ledger.context.database.transact(
        lambda connection: people.create_operator(connection, "olga", PASSWORD, Passwords((8, 1)), 10, Origin("test"))
    )
    revoked = await ada.key()
    await ada.call("DELETE", f"/api/core/keys/{revoked.split('_')[2]}/")
    return {
        "user": ada.tokens["access"], "other": eve.tokens["access"], "operator": (await sign_in(ledger, "olga")).json()["access"],
        "revoked": revoked, "narrow": await ada.key(scopes=["jobs:read"]), "nonsense": "a.b.c",
    }  # fmt: skip


async def test_every_route_is_public_by_name_or_wants_a_credential(ledger, callers):
    public = set()
    for (method, path), operation in routes_of(ledger).items():
        answers = {
            kind: await ledger.http.request(method, path_of(path), headers=bearer(token) if token else {}, json={})
            for kind, token in {"anonymous": None, **callers}.items()
        }
        statuses = {kind: answer.status_code for kind, answer in answers.items()}
        assert all(status < 500 for status in statuses.values()), (method, path, statuses)
        if "public" in operation.get("tags", ()):
            public.add(operation["operationId"])
            continue
        assert (statuses["anonymous"], statuses["revoked"], statuses["nonsense"]) == (401, 401, 401), (method, path, statuses)
        assert answers["anonymous"].headers["www-authenticate"] == "Bearer"
        if operation["operationId"] in AGENTS:
            assert set(statuses.values()) == {401}, (method, path, statuses)
            continue
        assert statuses["narrow"] in {400, 403}, (method, path, statuses)
        if path.startswith("/api/admin/"):
            assert statuses["user"] in {400, 403}, (method, path, statuses)
            assert answers["user"].json()["code"] in {"not_permitted", "invalid_request"}
    assert public == PUBLIC


async def test_no_route_of_operators_does_anything_for_somebody_else(ledger, callers, database):
    """With bodies that are right: the answer is 403 for everybody but the operator."""
    bodies = {
        "reason": "test", "amount": "1", "job": "1", "user": IDS["user_id"], "job_id": IDS["job_id"],
        "name": "m:1b", "digest": "0" * 64, "source": "a test", "license": "MIT", "size_bytes": 1, "context_tokens": 1,
        "uphold": True,
    }  # fmt: skip
    for method, path in routes_of(ledger):
        if not path.startswith("/api/admin/"):
            continue
        wanted = routes_of(ledger)[method, path].get("requestBody")
        names = set()
        if wanted:
            schema = wanted["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
            names = set(ledger.http._transport.app.openapi()["components"]["schemas"][schema]["properties"])
        body = {name: value for name, value in bodies.items() if name in names}
        for kind in ("user", "other", "narrow"):
            answer = await ledger.http.request(method, path_of(path), headers=bearer(callers[kind]), json=body or None)
            assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted"), (method, path, kind, answer.text)
        answer = await ledger.http.request(method, path_of(path), headers=bearer(callers["operator"]), json=body or None)
        assert answer.status_code in {200, 201, 204, 404}, (method, path, answer.text)


def test_the_scopes_of_keys_do_not_open_the_door_of_operators():
    assert OPERATOR_SCOPE not in ALL_SCOPES


@pytest.mark.parametrize("token", [None, "nonsense", "wrong audience", "other service"])
@pytest.mark.parametrize("path", ["/internal/v1/operations", "/internal/v1/feed", "/internal/v1/audits/offer", "/internal/v1/audits/take", "/internal/v1/audits/report", "/internal/v1/audits/count-alarm", "/internal/v1/guard/enter", "/internal/v1/guard/look"])  # fmt: skip
async def test_the_internal_port_answers_our_services_alone(ledger, token, path):
    import httpx2

    from cluster.service_tokens import ServiceTokens
    from ledger.app import create_internal_app
    from serve_app.local.secrets import make_service_key

    tokens = ServiceTokens((ledger.folder / "service_serve.pem").read_bytes(), "serve")
    stranger = ledger.folder / "stranger"
    stranger.mkdir(exist_ok=True)
    make_service_key(stranger, "serve")
    said = {
        None: None, "nonsense": "x.y.z", "wrong audience": tokens.mint("node"),
        "other service": ServiceTokens((stranger / "service_serve.pem").read_bytes(), "serve").mint("ledger-internal"),
    }[token]  # fmt: skip
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(create_internal_app(ledger.context)), base_url="http://internal") as http:
        method = "GET" if path.endswith("feed") else "POST"
        answer = await http.request(
            method, path, headers=bearer(said) if said else {}, json=None if method == "GET" else {"operations": []}
        )
    assert answer.status_code == 401


async def test_another_persons_things_are_404(ledger, callers):
    ada, eve = callers["user"], callers["other"]
    deposit = (await ledger.http.post("/api/payments/deposit/", headers=bearer(ada), json={"amount": "5.00"})).json()["id"]
    key = (await ledger.http.get("/api/core/keys/", headers=bearer(ada))).json()["results"][0]["id"]
    token = (await ledger.http.post("/api/core/agent-token/generate/", headers=bearer(ada), json={})).json()["id"]
    for method, path in [
        ("GET", f"/api/payments/transactions/{deposit}/"), ("DELETE", f"/api/core/keys/{key}/"), ("POST", f"/api/core/keys/{key}/revoke/"),
        ("POST", f"/api/core/agent-token/{token}/revoke/"),
    ]:  # fmt: skip
        assert (await ledger.http.request(method, path, headers=bearer(eve))).status_code == 404
    changed = await ledger.http.patch(f"/api/core/keys/{key}/", headers=bearer(eve), json={"name": "mine"})
    assert changed.status_code == 404


async def test_a_credential_in_the_url_is_none(ledger, callers):
    for name in ("token", "access_token", "api_key", "key"):
        answer = await ledger.http.get("/api/payments/wallet/", params={name: callers["user"]})
        assert answer.status_code == 401
