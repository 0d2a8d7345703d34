"""The supervisor's ear."""

import asyncio
import stat

import pytest

from serve_app.local import control
from serve_app.local.errors import Refused


async def echoed(question):
    if question["restart"] == "nobody":
        raise Refused("there is no `nobody`", "known: somebody")
    return {"took_s": 1.5}


async def asked(path, question, limit_s=60):
    return await asyncio.to_thread(control.ask, path, question, limit_s)


async def test_a_question_is_answered_or_refused_with_a_hint(tmp_path):
    path = tmp_path / "control.sock"
    async with control.listening(path, echoed):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await asked(path, {"restart": "ledger"}) == {"took_s": 1.5}
        with pytest.raises(Refused, match="there is no `nobody`") as refused:
            await asked(path, {"restart": "nobody"})
        assert refused.value.hint == "known: somebody"
        with pytest.raises(Refused, match="this is no question"):
            await asked(path, {})


async def test_without_a_supervisor_one_is_told_so(tmp_path):
    with pytest.raises(Refused, match="does not answer"):
        await asked(tmp_path / "control.sock", {"restart": "ledger"})


async def test_one_that_ends_meanwhile_is_told_too(tmp_path):
    began = asyncio.Event()

    async def never(_question):
        began.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(60):
        async with control.listening(tmp_path / "control.sock", never):
            asking = asyncio.create_task(asked(tmp_path / "control.sock", {"restart": "ledger"}))
            await began.wait()
        with pytest.raises(Refused, match=r"ended meanwhile"):
            await asking


async def test_what_was_begun_is_finished_when_who_asked_leaves(tmp_path):
    done = asyncio.Event()

    async def slow(_question):
        await asyncio.sleep(0.2)
        done.set()
        return {}

    async with control.listening(tmp_path / "control.sock", slow):
        with pytest.raises(Refused, match="does not answer"):
            await asked(tmp_path / "control.sock", {"restart": "ledger"}, 0.05)
        await asyncio.wait_for(done.wait(), 60)
