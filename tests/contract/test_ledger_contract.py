"""What every ledger promises its callers: the fake of the tests and the real one, over its socket and PostgreSQL, alike."""

import asyncio

import jwt
import pytest

from ledger.client import (
    Capture,
    CredentialMistyped,
    CredentialRevoked,
    CredentialUnknown,
    HoldNotOpen,
    IdempotencyConflict,
    InsufficientFunds,
    JobNotSettled,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PlaceHold,
    RateLimited,
    SignReceipt,
    Void,
    job_id,
    new_hold_id,
)
from ledger.identity.api_keys import new_key
from tests.fakes import FakeLedger

CREDIT = 1_000_000


class Subject:
    """A ledger under test: its operations, a key with 5.00 credits, and what the test may arrange."""

    def __init__(self, operations, key, narrow_key, revoke, balance):
        self.operations, self.key, self.narrow_key, self.revoke, self.balance = operations, key, narrow_key, revoke, balance

    async def place(self, **changes):
        fields = {"id": new_hold_id(), "credential": self.key, "model": "m", "prompt_tokens": 10, "max_tokens": 100, "ttl_s": 60}
        return await self.operations.place_hold(PlaceHold(**(fields | changes)))

    async def capture(self, id_, **changes):
        fields = {
            "outcome": "succeeded",
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "counted_by": "platform",
            "node": "node_local",
            "attempt": 1,
        }
        return await self.operations.capture(Capture(id=id_, **(fields | changes)))

    async def void(self, id_, *, retryable=False):
        return await self.operations.void(Void(id=id_, reason="test", retryable=retryable))

    async def receipt(self, id_):
        token = await self.operations.sign_receipt(SignReceipt(id=id_, model_digest="d" * 64, text_sha256="0" * 64))
        return jwt.decode(token, options={"verify_signature": False})


def fake(**settings):
    operations = FakeLedger(**settings)
    key, narrow = new_key(), new_key()
    person = operations.add_key(key, 5 * CREDIT)
    operations.add_key(narrow, scopes=("wallet:read",), person=person)

    async def revoke(revoked):
        operations.revoke(revoked)

    async def balance():
        return operations.balances[person]

    return Subject(operations, key, narrow, revoke, balance)


async def real(ledger_with, **settings):
    names = {"flat": "job_price", "completion_per_million": "completion_price", "prompt_per_million": "prompt_price"}
    chosen = {names.get(name, name): f"{value / CREDIT:.6f}" if name in names else value for name, value in settings.items()}
    ledger = await ledger_with(welcome_credits="5.00", **chosen)
    bearer = {"Authorization": f"Bearer {ledger.key}"}
    narrow = (await ledger.http.post("/api/core/keys/", json={"name": "n", "scopes": ["wallet:read"]}, headers=bearer)).json()["key"]

    async def revoke(revoked):
        done = await ledger.http.delete(f"/api/core/keys/{revoked.split('_')[2]}/", headers=bearer)
        assert done.status_code == 204

    async def balance():
        from ledger.client import micros_of

        return micros_of((await ledger.http.get("/api/payments/wallet/", headers=bearer)).json()["balance"])

    return Subject(ledger.client, ledger.key, narrow, revoke, balance)


@pytest.fixture(params=["fake", "real"])
def subject_with(request):
    """Make a subject with settings of the test's choice."""
    if request.param == "fake":

        async def make(**settings):
            return fake(**settings)

        return make
    ledger_with = request.getfixturevalue("ledger_with")

    async def make_real(**settings):
        return await real(ledger_with, **settings)

    return make_real


@pytest.fixture
async def subject(subject_with):
    return await subject_with()


async def test_a_hold_reserves_and_a_capture_charges(subject):
    placed = await subject.place()
    assert (placed.status, placed.held, placed.price.flat, placed.caller.username) == ("ok", CREDIT, CREDIT, "first")
    assert await subject.balance() == 4 * CREDIT
    settled = await subject.capture(placed.id)
    assert (settled.status, settled.cost) == ("ok", CREDIT)
    assert await subject.balance() == 4 * CREDIT


async def test_the_same_try_again_is_the_same_hold_while_it_is_open(subject):
    id_ = new_hold_id()
    first, again = await subject.place(id=id_), await subject.place(id=id_)
    assert (first.status, again.status, again.held) == ("ok", "ok", first.held)
    assert await subject.balance() == 4 * CREDIT
    with pytest.raises(IdempotencyConflict):
        await subject.place(id=id_, model="another")
    await subject.void(id_)
    with pytest.raises(HoldNotOpen) as refused:
        await subject.place(id=id_)
    assert refused.value.state == "voided"


async def test_captures_repeat_and_contradictions_are_refused(subject):
    id_ = (await subject.place()).id
    first, again = await subject.capture(id_), await subject.capture(id_)
    assert (first.status, again.status, first.cost) == ("ok", "exists", again.cost)
    for contradiction in (subject.capture(id_, completion_tokens=6), subject.capture(id_, attempt=2), subject.void(id_)):
        with pytest.raises(HoldNotOpen) as refused:
            await contradiction
        assert refused.value.state == "captured"


async def test_voids_repeat_and_end_the_hold(subject):
    id_ = (await subject.place()).id
    assert [(await subject.void(id_)).status for _ in range(2)] == ["ok", "exists"]
    assert await subject.balance() == 5 * CREDIT
    with pytest.raises(HoldNotOpen) as refused:
        await subject.capture(id_)
    assert refused.value.state == "voided"


async def test_an_unknown_hold_is_not_open(subject):
    for asked in (subject.void(new_hold_id()), subject.capture(new_hold_id())):
        with pytest.raises(HoldNotOpen) as refused:
            await asked
        assert refused.value.state == "unknown"


async def test_a_capture_and_a_void_at_once_end_in_one_of_them(subject):
    id_ = (await subject.place()).id
    answers = await asyncio.gather(subject.capture(id_), subject.void(id_), return_exceptions=True)
    assert sorted(isinstance(answer, HoldNotOpen) for answer in answers) == [False, True]
    was_captured = not isinstance(answers[0], Exception)
    assert await subject.balance() == (4 if was_captured else 5) * CREDIT


async def test_an_unknown_node_is_not_paid_and_the_hold_stays(subject):
    id_ = (await subject.place()).id
    with pytest.raises(NotFound):
        await subject.capture(id_, node="node_nobody")
    assert (await subject.capture(id_)).status == "ok"


@pytest.mark.parametrize(
    ("outcome", "flat", "tokens"), [("succeeded", CREDIT, 5), ("canceled", CREDIT, 5), ("incomplete", 0, 5)]
)  # fmt: skip
async def test_the_outcome_decides_the_flat_tariff(subject_with, outcome, flat, tokens):
    subject = await subject_with(prompt_per_million=1000 * CREDIT, completion_per_million=2000 * CREDIT)
    placed = await subject.place()
    assert placed.held == CREDIT + 10 * 1000 + 100 * 2000
    assert (await subject.capture(placed.id, outcome=outcome, completion_tokens=tokens)).cost == flat + 10 * 1000 + tokens * 2000


async def test_a_capture_never_exceeds_its_hold(subject_with):
    subject = await subject_with(completion_per_million=2000 * CREDIT)
    placed = await subject.place()
    assert (await subject.capture(placed.id, completion_tokens=10**9)).cost == placed.held


async def test_twenty_at_once_against_five_credits_are_five(subject):
    answers = await asyncio.gather(*(subject.place() for _ in range(20)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, InsufficientFunds)]
    assert len(refused) == 15
    assert {(one.available_micros, one.required_micros) for one in refused} == {(0, CREDIT)}
    assert await subject.balance() == 0


async def test_open_jobs_have_a_limit_and_a_resolved_one_makes_room(subject_with):
    subject = await subject_with(open_jobs=1)
    first = await subject.place()
    with pytest.raises(RateLimited) as refused:
        await subject.place()
    assert (refused.value.limit, refused.value.retry_after_s) == ("open jobs", 5)
    await subject.void(first.id)
    assert (await subject.place()).status == "ok"


async def test_an_impossible_amount_is_insufficient_funds(subject_with):
    subject = await subject_with(completion_per_million=999_999_999_999 * CREDIT)
    with pytest.raises(InsufficientFunds):
        await subject.place(max_tokens=2**31 - 1)


async def test_credentials_are_told_apart(subject):
    wrong = {
        "nonsense": CredentialUnknown,
        new_key(): CredentialUnknown,
        subject.key[:-1]: CredentialMistyped,
        subject.key[:-1] + ("0" if subject.key[-1] != "0" else "1"): CredentialMistyped,
    }
    for credential, kind in wrong.items():
        for asked in (subject.place(credential=credential), subject.operations.introspect(credential)):
            with pytest.raises(NotAuthenticated) as refused:
                await asked
            assert type(refused.value) is kind
    assert (await subject.operations.introspect(subject.narrow_key)).scopes == ("wallet:read",)
    with pytest.raises(NotPermitted) as lacking:
        await subject.place(credential=subject.narrow_key)
    assert lacking.value.scope == "jobs:write"


async def test_a_revoked_key_is_cut_at_once(subject):
    assert (await subject.operations.introspect(subject.narrow_key)).username == "first"
    await subject.revoke(subject.narrow_key)
    with pytest.raises(CredentialRevoked):
        await subject.operations.introspect(subject.narrow_key)


async def test_an_idempotency_key_stands_for_one_hold(subject):
    asked = {"idempotency_key": "k", "request_digest": "aa"}
    answers = await asyncio.gather(*(subject.place(**asked) for _ in range(5)))
    assert len({answer.id for answer in answers}) == 1
    assert sorted(answer.status for answer in answers) == ["exists"] * 4 + ["ok"]
    with pytest.raises(IdempotencyConflict):
        await subject.place(idempotency_key="k", request_digest="bb")
    await subject.capture(answers[0].id)
    late = await subject.place(**asked)
    assert (late.status, late.id, late.held) == ("exists", answers[0].id, CREDIT)
    assert await subject.balance() == 4 * CREDIT


async def test_the_same_try_with_an_idempotency_key_is_ok_again(subject):
    asked = {"id": new_hold_id(), "idempotency_key": "k", "request_digest": "aa"}
    first, again = await subject.place(**asked), await subject.place(**asked)
    assert (first.status, again.status, again.id) == ("ok", "ok", first.id)


async def test_a_key_is_free_again_after_our_fault_and_only_then(subject):
    asked = {"idempotency_key": "k", "request_digest": "aa"}
    first = await subject.place(**asked)
    await subject.void(first.id, retryable=True)
    await subject.void(first.id, retryable=True)
    second, repeat = await asyncio.gather(subject.place(**asked), subject.place(**asked))
    assert {second.status, repeat.status} == {"ok", "exists"}
    assert second.id == repeat.id != first.id
    await subject.void(second.id)
    assert (await subject.place(**asked)).status == "exists"
    assert await subject.balance() == 5 * CREDIT


async def test_holds_are_found_by_age_oldest_first(subject):
    ids = [(await subject.place()).id for _ in range(3)]
    found = await subject.operations.find_holds(0)
    assert [hold.id for hold in found] == ids
    assert all(0 <= hold.age_s < 10 for hold in found)
    assert [hold.id for hold in await subject.operations.find_holds(0, limit=2)] == ids[:2]
    assert await subject.operations.find_holds(30) == ()
    await subject.void(ids[0])
    assert [hold.id for hold in await subject.operations.find_holds(0)] == ids[1:]


async def test_a_receipt_is_there_when_the_job_is_settled(subject):
    captured, voided = (await subject.place()).id, (await subject.place()).id
    with pytest.raises(JobNotSettled):
        await subject.receipt(captured)
    with pytest.raises(NotFound):
        await subject.receipt(new_hold_id())
    await subject.capture(captured)
    await subject.void(voided)
    paid, unpaid = await subject.receipt(captured), await subject.receipt(voided)
    assert (paid["job"], paid["aud"], paid["outcome"], paid["cost"]) == (job_id(captured), "receipt", "succeeded", "1.00")
    assert (unpaid["job"], unpaid["outcome"], unpaid["cost"]) == (job_id(voided), "voided", "0.00")
