"""Enrollment of agents and their tokens: codes, proofs, nonces, and what happens at once."""

import asyncio
import base64
import hashlib
import json
import re
import time
from collections import Counter

import httpx2
import pytest

from ledger.app import create_public_app
from ledger.identity import agent_proofs
from ledger.identity.enrollment import origin_text
from tests.edge_agent import ORIGIN, Agent, account, execute


@pytest.fixture
async def owner(ledger, database):
    return await account(ledger, database, "owner")


def code_of(answer):
    return (answer.status_code, answer.json()["code"])


async def test_a_code_is_shown_once_and_only_its_beginning_is_kept(ledger, owner, database):
    made = await owner.generate(label="attic")
    assert set(made) == {"token", "id", "label", "created_at", "expires_at", "message"}
    assert re.fullmatch(r"gfe_enroll_[0-9A-Za-z]{43}", made["token"])
    (row,) = await owner.tokens()
    assert set(row) == {"id", "label", "created_at", "expires_at", "last_used", "token_prefix", "node_id", "revoked_at"}
    assert (row["id"], row["label"], row["last_used"], row["node_id"], row["revoked_at"]) == (made["id"], "attic", None, None, None)
    assert made["token"].startswith(row["token_prefix"])
    assert len(row["token_prefix"]) < 20
    ((stored,),) = execute(database, "SELECT row_to_json(e)::text FROM ledger.enrollment e")
    assert made["token"] not in stored
    assert made["token"] not in str(execute(database, "SELECT row_to_json(l)::text FROM ledger.audit_log l"))


async def test_an_agent_enrolls_and_a_lost_reply_is_repeated(owner, database):
    made = await owner.generate(label="attic")
    agent = Agent(owner.http)
    first, again = await agent.enroll(made["token"]), await agent.enroll(made["token"])
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert set(first.json()) == {"node_id", "ws_url", "min_agent_version"}
    (node,) = await owner.nodes()
    assert (node["id"], node["name"], node["kind"], node["state"], node["tier"]) == (
        first.json()["node_id"],
        "attic",
        "edge",
        "active",
        "probation",
    )
    assert (await owner.tokens())[0]["node_id"] == node["id"]
    assert execute(database, "SELECT count(*) FROM ledger.feed WHERE kind = 'node'") == [(1,)]


async def test_unknown_expired_revoked_and_used_codes_get_one_and_the_same_answer(owner, database):
    agent = Agent(owner.http)
    expired, revoked, used, spent = [await owner.generate() for _ in range(4)]
    execute(
        database,
        "UPDATE ledger.enrollment SET expires_at = clock_timestamp() WHERE prefix = %s",
        [agent_proofs.shown_part(expired["token"])],
    )
    await owner.call("POST", f"agent-token/{revoked['id']}/revoke/")
    assert (await Agent(owner.http).enroll(used["token"])).status_code == 201
    late = Agent(owner.http)
    assert (await late.enroll(spent["token"])).status_code == 201
    execute(
        database, "UPDATE ledger.enrollment SET expires_at = clock_timestamp() WHERE prefix = %s", [agent_proofs.shown_part(spent["token"])]
    )
    answers = [await agent.enroll(code["token"]) for code in (expired, revoked, used)]
    answers += [await agent.enroll(code) for code in (agent_proofs.new_code(), "gfe_enroll_short", "x")]
    answers.append(await late.enroll(spent["token"]))  # the same answer is repeated only while the code lives
    assert [code_of(answer) for answer in answers] == [(401, "enroll_code_invalid")] * 7
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].headers["www-authenticate"] == "Bearer"


async def test_a_blocked_person_s_code_is_worth_nothing(owner, database):
    made = await owner.generate()
    execute(database, "UPDATE ledger.person SET blocked_at = clock_timestamp() WHERE username = 'owner'")
    assert code_of(await Agent(owner.http).enroll(made["token"])) == (401, "enroll_code_invalid")


async def test_a_proof_must_fit_the_code_and_the_key_and_leaves_the_code_unused(owner):
    code, other = (await owner.generate())["token"], (await owner.generate())["token"]
    agent, stranger = Agent(owner.http), Agent(owner.http)
    wrong = [
        agent.sign("gfe.agent.enroll.v1", other, agent.public_key), stranger.sign("gfe.agent.enroll.v1", code, agent.public_key),
        agent.sign("gfe.agent.token.v1", code, agent.public_key), "A" * 86, "x", "é" * 86,
        agent.sign("gfe.agent.enroll.v1", code, agent.public_key) + "==",
    ]  # fmt: skip
    answers = [await agent.enroll(code, proof=proof) for proof in wrong]
    assert [(answer.status_code, list(answer.json()["errors"])) for answer in answers] == [(400, ["proof"])] * len(wrong)
    assert (await agent.enroll(code)).status_code == 201


@pytest.mark.parametrize("key", ["", "x", "A" * 42, "A" * 44, "!" * 43, "é" * 43])
async def test_a_public_key_is_32_bytes_in_base64url(owner, key):
    answer = await Agent(owner.http).enroll((await owner.generate())["token"], public_key=key)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["public_key"])


def test_a_key_has_one_spelling_only():
    agent = Agent(None)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(agent.public_key[-1])
    other = agent.public_key[:-1] + alphabet[last ^ 1]
    assert base64.urlsafe_b64decode(other + "=") == base64.urlsafe_b64decode(agent.public_key + "=")
    with pytest.raises(agent_proofs.InvalidRequest):
        agent_proofs.check_public_key(other)


def test_the_thumbprint_is_that_of_rfc_8037():
    assert agent_proofs.thumbprint("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo") == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_origin_is_what_agents_sign():
    assert origin_text("https://GPU.example.org/console/") == "https://gpu.example.org"
    assert origin_text(ORIGIN + "/") == ORIGIN


async def test_unknown_fields_and_nuls_are_refused(owner):
    code = (await owner.generate())["token"]
    answer = await Agent(owner.http).enroll(code, node_id="node_other")
    assert (answer.status_code, answer.json()["errors"]) == (400, {"node_id": ["Unknown field."]})
    assert (await Agent(owner.http).enroll(code, platform="a\0b")).status_code == 400
    assert (await owner.call("POST", "agent-token/generate/", json={"label": "a\0b"})).status_code == 400
    assert (await owner.call("POST", "agent-token/generate/", json={"owner": "x"})).status_code == 400


async def test_a_key_belongs_to_one_node_for_ever(owner, ledger, database):
    agent, node = await owner.enrolled()
    other = await account(ledger, database)
    second = (await other.generate())["token"]
    assert code_of(await agent.enroll(second)) == (409, "key_in_use")
    await owner.call("DELETE", f"nodes/{node}/")
    assert code_of(await agent.enroll(second)) == (409, "key_in_use")
    assert (await Agent(owner.http).enroll(second)).status_code == 201  # the refused tries did not use the code up


async def test_of_ten_agents_with_one_code_one_gets_in(owner, database):
    code = (await owner.generate())["token"]
    answers = await asyncio.gather(*(Agent(owner.http).enroll(code) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [401] * 9
    assert execute(database, "SELECT count(*) FROM ledger.node WHERE kind = 'edge'") == [(1,)]


async def test_one_agent_with_two_codes_at_once_is_one_node(owner, database):
    codes = [(await owner.generate())["token"] for _ in range(5)]
    agent = Agent(owner.http)
    answers = await asyncio.gather(*(agent.enroll(code) for code in codes))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 4
    assert execute(database, "SELECT count(*) FROM ledger.node WHERE kind = 'edge'") == [(1,)]


async def test_one_agent_that_sends_its_request_ten_times_at_once_gets_one_answer(owner):
    code, agent = (await owner.generate())["token"], Agent(owner.http)
    answers = await asyncio.gather(*(agent.enroll(code) for _ in range(10)))
    assert {(answer.status_code, answer.text) for answer in answers} == {(201, answers[0].text)}


async def test_of_twenty_codes_at_once_at_one_below_the_limit_one_is_made(ledger_with, database):
    ledger = await ledger_with(max_agents=5)
    owner = await account(ledger, database)
    for _ in range(4):
        await owner.generate()
    answers = await asyncio.gather(*(owner.call("POST", "agent-token/generate/", json={}) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 19
    refused = next(answer for answer in answers if answer.status_code == 400)
    assert refused.json()["error"] == "Maximum 5 active tokens allowed. Revoke an existing token first."
    assert refused.json()["code"] == "too_many_agents"


async def test_expired_and_revoked_codes_make_room_and_used_ones_do_not(ledger_with, database):
    ledger = await ledger_with(max_agents=1)
    owner = await account(ledger, database)
    await owner.generate()
    execute(database, "UPDATE ledger.enrollment SET expires_at = clock_timestamp()")
    _, node = await owner.enrolled()
    execute(database, "UPDATE ledger.enrollment SET expires_at = clock_timestamp()")
    assert (await owner.call("POST", "agent-token/generate/")).status_code == 400
    assert (await owner.call("DELETE", f"nodes/{node}/")).status_code == 204
    made = await owner.generate()
    assert (await owner.call("POST", f"agent-token/{made['id']}/revoke/")).status_code == 200
    await owner.generate()


async def test_revoke_says_what_it_did_and_does_it_once(owner):
    made = await owner.generate()
    first = await owner.call("POST", f"agent-token/{made['id']}/revoke/")
    assert (first.status_code, first.json()) == (200, {"status": "revoked", "id": made["id"]})
    for id_ in (made["id"], "agent_nonsense", "x", "%00", made["id"].lower()):
        answer = await owner.call("POST", f"agent-token/{id_}/revoke/")
        assert (*code_of(answer), answer.json()["error"]) == (404, "not_found", "Token not found or already revoked.")
    assert (await owner.tokens())[0]["revoked_at"] is not None


async def test_a_signed_nonce_gives_a_token_that_is_bound_to_the_key(ledger, owner):
    agent, node = await owner.enrolled()
    answer = await agent.token(node)
    assert (answer.status_code, answer.json()["expires_in_s"]) == (200, 600)
    claims = ledger.context.signing_keys.verify(answer.json()["access_token"], "agent")
    x = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": agent.public_key}, separators=(",", ":"))
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(x.encode()).digest()).decode().rstrip("=")
    assert (claims["sub"], claims["aud"], claims["iss"], claims["cnf"]) == (node, "agent", ORIGIN, {"jkt": thumbprint})
    assert claims["exp"] - claims["iat"] == 600
    again = ledger.context.signing_keys.verify((await agent.token(node)).json()["access_token"], "agent")
    assert again["jti"] != claims["jti"]
    assert (await owner.tokens())[0]["last_used"] is not None
    assert (await owner.nodes())[0]["last_seen_at"] is not None


async def test_a_nonce_works_once_for_its_node_while_it_lives(owner, database):
    agent, node = await owner.enrolled()
    _, other = await owner.enrolled()
    spent = await agent.nonce(node)
    assert (await agent.token(node, nonce=spent)).status_code == 200
    expired = await agent.nonce(node)
    execute(database, "UPDATE ledger.agent_nonce SET expires_at = clock_timestamp()")
    for nonce in (spent, expired, "invented", await agent.nonce(other)):
        assert code_of(await agent.token(node, nonce=nonce)) == (401, "bad_signature")


async def test_a_nonce_is_spent_by_a_wrong_signature_too(owner):
    agent, node = await owner.enrolled()
    nonce = await agent.nonce(node)
    assert code_of(await agent.token(node, nonce=nonce, signature="A" * 86)) == (401, "bad_signature")
    assert code_of(await agent.token(node, nonce=nonce)) == (401, "bad_signature")


async def test_of_ten_requests_with_one_nonce_one_gets_a_token(owner):
    agent, node = await owner.enrolled()
    nonce = await agent.nonce(node)
    answers = await asyncio.gather(*(agent.token(node, nonce=nonce) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 9


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "", ORIGIN + "/", "http://127.0.0.1"])
async def test_a_signature_for_another_platform_is_worth_nothing(owner, origin):
    agent, node = await owner.enrolled()
    assert code_of(await agent.token(node, origin=origin)) == (401, "bad_signature")


async def test_an_unknown_node_s_nonce_looks_like_any_other_and_is_not_kept(owner, database):
    agent, node = await owner.enrolled()
    known, unknown = [await owner.http.post("/api/core/agent/nonce/", json={"node_id": id_}) for id_ in (node, "node_nobody")]
    assert (known.status_code, unknown.status_code) == (200, 200)
    assert known.json()["expires_in_s"] == unknown.json()["expires_in_s"] == 60
    assert len(known.json()["nonce"]) == len(unknown.json()["nonce"]) == 43
    ((stored,),) = execute(database, "SELECT hash FROM ledger.agent_nonce")
    assert bytes(stored) == hashlib.sha256(known.json()["nonce"].encode()).digest()
    assert code_of(await agent.token("node_nobody", nonce=unknown.json()["nonce"])) == (401, "bad_signature")
    assert code_of(await agent.token("node_local")) == (401, "bad_signature")  # a node without a key has nobody who could sign


async def test_old_nonces_are_forgotten(ledger, owner, database):
    agent, node = await owner.enrolled()
    await agent.nonce(node)
    execute(database, "UPDATE ledger.agent_nonce SET expires_at = clock_timestamp()")
    fresh = await agent.nonce(node)
    assert await ledger.context.agent_tokens.clean() == 1
    assert (await agent.token(node, nonce=fresh)).status_code == 200


async def test_a_revoked_agent_gets_no_token_and_only_the_key_s_owner_hears_why(owner):
    agent, node = await owner.enrolled()
    (row,) = await owner.tokens()
    await owner.call("POST", f"agent-token/{row['id']}/revoke/")
    assert code_of(await agent.token(node)) == (401, "agent_revoked")
    assert code_of(await Agent(owner.http).token(node)) == (401, "bad_signature")
    assert (await owner.nodes())[0]["state"] == "revoked"


async def test_a_paused_agent_may_connect_and_a_blocked_owner_s_may_not(owner, database):
    agent, node = await owner.enrolled()
    await owner.call("PATCH", f"nodes/{node}/", json={"state": "paused"})
    assert (await agent.token(node)).status_code == 200
    execute(database, "UPDATE ledger.person SET blocked_at = clock_timestamp() WHERE username = 'owner'")
    assert code_of(await agent.token(node)) == (401, "agent_revoked")


async def test_a_node_with_a_stolen_key_gets_a_new_one_and_keeps_its_history(owner):
    thief, node = await owner.enrolled(label="attic")
    (row,) = await owner.tokens()
    await owner.call("POST", f"agent-token/{row['id']}/revoke/")
    again = Agent(owner.http)
    code = (await owner.generate(node_id=node))["token"]
    assert code_of(await thief.enroll(code)) == (409, "key_in_use")
    answer = await again.enroll(code)
    assert (answer.status_code, answer.json()["node_id"]) == (201, node)
    assert (await again.enroll(code)).json() == answer.json()
    assert (await again.token(node)).status_code == 200
    assert code_of(await thief.token(node)) == (401, "bad_signature")
    (only,) = await owner.nodes()
    assert (only["name"], only["state"]) == ("attic", "active")


async def test_a_new_key_revokes_what_used_the_old_one(owner):
    old, node = await owner.enrolled()
    await Agent(owner.http).enroll((await owner.generate(node_id=node))["token"])
    assert [row["revoked_at"] is None for row in await owner.tokens()] == [True, False]
    assert code_of(await old.token(node)) == (401, "bad_signature")


async def test_a_code_for_a_node_ends_with_the_node(owner, database):
    _, node = await owner.enrolled()
    code = (await owner.generate(node_id=node))["token"]
    _, banned = await owner.enrolled()
    late = (await owner.generate(node_id=banned))["token"]
    assert (await owner.call("DELETE", f"nodes/{node}/")).status_code == 204
    execute(database, "UPDATE ledger.node SET state = 'banned' WHERE id = %s", [banned])
    assert code_of(await Agent(owner.http).enroll(code)) == (401, "enroll_code_invalid")
    assert code_of(await Agent(owner.http).enroll(late)) == (401, "enroll_code_invalid")
    assert (await owner.call("POST", "agent-token/generate/", json={"node_id": node})).status_code == 404
    assert (await owner.call("POST", "agent-token/generate/", json={"node_id": banned})).status_code == 400
    assert execute(database, "SELECT state FROM ledger.node WHERE id = %s", [banned]) == [("banned",)]


async def test_pages_of_tokens_are_the_whole_list(owner):
    made = [(await owner.generate())["id"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = (await owner.call("GET", "agent-token/list/", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [row["id"] for row in page["results"]]
        if (cursor := page["next"]) is None:
            break
    assert seen == made[::-1]


@pytest.mark.parametrize("path", ["agent-token/list", "nodes"])
async def test_both_spellings_are_served(owner, path):
    assert [(await owner.call("GET", path + slash)).status_code for slash in ("", "/")] == [200, 200]


async def test_an_address_that_asks_for_nonces_too_often_is_told_to_wait(ledger, monkeypatch):
    monkeypatch.setattr("ledger.api.agents.PER_MINUTE", 3)
    statuses = [(await ledger.http.post("/api/core/agent/nonce/", json={"node_id": "node_x"})).status_code for _ in range(5)]
    assert statuses == [200] * 3 + [429] * 2


@pytest.mark.nightly  # on a busy machine the bucket of wrong codes fills again meanwhile
async def test_a_thousand_wrong_codes_do_not_hinder_a_right_one_from_elsewhere(ledger, owner, database, figure):
    """The stranger is told to wait after a while; who has a code is not, neither meanwhile nor after it."""

    def from_(address):
        transport = httpx2.ASGITransport(create_public_app(ledger.context), client=(address, 4711))
        return httpx2.AsyncClient(transport=transport, base_url="http://ledger")

    codes = [(await owner.generate())["token"] for _ in range(5)]
    gate, told, waits = asyncio.Semaphore(32), Counter(), []
    async with from_("203.0.113.66") as storm, from_("198.51.100.7") as home:
        strangers = [Agent(storm) for _ in range(20)]

        async def wrong(n):
            async with gate:
                answer = await strangers[n % 20].enroll(agent_proofs.new_code())
                told[code_of(answer)] += 1

        attempts = [asyncio.create_task(wrong(n)) for n in range(1000)]
        for n, code in enumerate(codes):
            while told.total() < 150 * n:
                await asyncio.sleep(0.005)
            began = time.monotonic()
            answer = await Agent(home).enroll(code)
            waits.append(time.monotonic() - began)
            assert answer.status_code == 201, answer.text
        await asyncio.gather(*attempts)
        told.pop((503, "ledger_unavailable"), None)  # on a machine that is very busy: to strangers too something is said in time
        assert set(told) == {(401, "enroll_code_invalid"), (429, "rate_limited")}
        assert told[401, "enroll_code_invalid"] < 400
        assert (await Agent(home).enroll((await owner.generate())["token"])).status_code == 201
        refused = await Agent(storm).enroll((await owner.generate())["token"])
        assert refused.status_code == 429, "not even with a right one, until it has waited"
    figure("enrolment", "1,000 wrong codes", f"{dict(told)}; the slowest right one meanwhile in {max(waits):.2f} s")
    assert max(waits) < 10
    assert execute(database, "SELECT count(*) FROM ledger.node WHERE kind = 'edge'") == [(6,)]
