"""Open sign-ins (F10): listed with where they began, ended one by one or all but this one; nobody sees or ends another's."""

import pytest

from tests.ledger.people import PASSWORD, Somebody, somebody

PATH = "/api/core/sessions/"


async def sessions(person):
    answer = await person.get(PATH)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


async def is_in(person):
    return (await person.get("/api/core/profile/")).status_code == 200


async def again(ledger, person, program="Elsewhere/1.0"):
    body = {"username": person.username, "password": PASSWORD}
    answer = await ledger.http.post("/api/core/token/", json=body, headers={"User-Agent": program})
    return Somebody(ledger, person.username, answer.json())


async def test_each_sign_in_is_listed_with_where_it_began(ledger):
    ada = await somebody(ledger)
    other = await again(ledger, ada)
    newest, oldest = await sessions(ada)
    assert (newest["program"], newest["is_current"], oldest["is_current"]) == ("Elsewhere/1.0", False, True)
    assert newest["address"] == "127.0.0.1"
    assert newest["created_at"] <= newest["renewed_at"] < newest["expires_at"]
    assert [row["is_current"] for row in await sessions(other)] == [True, False]


async def test_what_a_program_calls_itself_is_cut_and_cleaned(ledger):
    ada = await again(ledger, await somebody(ledger), "x" * 999)
    assert (await sessions(ada))[0]["program"] == "x" * 300


async def test_renewing_is_seen_and_adds_no_row(ledger):
    ada = await somebody(ledger)
    (before,) = await sessions(ada)
    await ledger.http.post("/api/core/token/refresh/", json={"refresh": ada.tokens["refresh"]})
    (after,) = await sessions(ada)
    assert after["renewed_at"] > before["renewed_at"]
    assert after["id"] == before["id"]


async def test_one_is_ended_and_the_others_go_on(ledger):
    ada = await somebody(ledger)
    other = await again(ledger, ada)
    row = next(row for row in await sessions(ada) if not row["is_current"])
    for _ in range(2):  # twice is fine
        assert (await ada.call("DELETE", f"{PATH}{row['id']}/")).status_code == 204
    assert not await is_in(other)
    assert (await ledger.http.post("/api/core/token/refresh/", json={"refresh": other.tokens["refresh"]})).status_code == 401
    assert [one["is_current"] for one in await sessions(ada)] == [True]


async def test_all_others_are_ended_and_this_one_stays(ledger):
    ada = await somebody(ledger)
    others = [await again(ledger, ada) for _ in range(3)]
    eve = await somebody(ledger, "eve")
    assert (await ada.post(f"{PATH}end-others/")).status_code == 204
    assert [await is_in(one) for one in [ada, *others, eve]] == [True, False, False, False, True]


async def test_nobody_ends_another_persons(ledger):
    ada, eve = await somebody(ledger), await somebody(ledger, "eve")
    (row,) = await sessions(ada)
    assert (await eve.call("DELETE", f"{PATH}{row['id']}/")).status_code == 404
    assert await is_in(ada)


@pytest.mark.parametrize("id_", ["nonsense", "session_", "session_7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "user_01JD0000000000000000000000"])
async def test_an_unknown_one_is_404(ledger, id_):
    ada = await somebody(ledger)
    assert (await ada.call("DELETE", f"{PATH}{id_}/")).status_code == 404


async def test_a_key_neither_lists_nor_ends_sign_ins(ledger):
    ada = await somebody(ledger)
    headers = {"Authorization": f"Bearer {await ada.key()}"}
    for method, path in [("GET", PATH), ("POST", f"{PATH}end-others/"), ("DELETE", f"{PATH}session_01JD0000000000000000000000/")]:
        assert (await ledger.http.request(method, path, headers=headers)).status_code == 403


async def test_pages_show_each_once(ledger):
    ada = await somebody(ledger)
    for _ in range(4):
        await again(ledger, ada)
    seen, cursor = [], ""
    while cursor is not None:
        page = (await ada.get(PATH, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen, cursor = [*seen, *(row["id"] for row in page["results"])], page["next"]
    assert seen == [row["id"] for row in await sessions(ada)]
    assert len(set(seen)) == 5
    assert (await ada.get(PATH, params={"cursor": "nonsense"})).status_code == 400
