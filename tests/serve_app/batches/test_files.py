"""Files through the `openai` package for Python."""

from datetime import UTC, datetime, timedelta

import openai
import pytest

from ledger.client import new_uuid7
from serve_app.api import files
from serve_app.store import files as kept
from tests.serve_app.batches.consumer import count
from tests.waiting import until


@pytest.fixture
async def client(batches):
    return batches.client


async def test_a_file_is_kept_byte_for_byte(client):
    content = b'{"a": 1}\r\n\n' + '{"b": "ü"}'.encode() + b"\xff" * 3
    made = await client.files.create(file=("my input.jsonl", content), purpose="batch")
    assert (made.filename, made.bytes, made.purpose, made.object) == ("my input.jsonl", len(content), "batch", "file")
    assert (await client.files.content(made.id)).content == content
    assert await client.files.retrieve(made.id) == made
    assert [one.id async for one in client.files.list(purpose="batch")] == [made.id]
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)


async def test_files_are_listed_page_by_page(client):
    made = [await client.files.create(file=(f"{n}.jsonl", b"{}"), purpose="batch") for n in range(5)]
    assert [one.id async for one in client.files.list(limit=2)] == [one.id for one in reversed(made)]
    assert [one.id async for one in client.files.list(purpose="assistants\x00")] == []
    assert [one.id async for one in client.files.list(limit=2, order="asc")] == [one.id for one in made]


async def test_a_file_of_another_purpose_is_refused(client, database):
    with pytest.raises(openai.BadRequestError, match="purpose"):
        await client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    await until(lambda: count(database, "file") == 0)


async def test_files_have_limits(client, monkeypatch, database):
    monkeypatch.setattr(files, "MAX_LINES", 3)
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 250)

    async def upload(content):
        return await client.files.create(file=("a.jsonl", content), purpose="batch")

    with pytest.raises(openai.BadRequestError, match="more than 3 lines"):
        await upload(b"{}\n" * 4)
    with pytest.raises(openai.BadRequestError, match="Line 2 is longer than 100 bytes"):
        await upload(b"{}\n" + b"x" * 101)
    with pytest.raises(openai.APIStatusError) as refused:
        await upload(b"x" * 251)
    assert refused.value.status_code == 413
    await until(lambda: count(database, "file") == 0)
    monkeypatch.setattr(kept, "MAX_FILES", 1)
    made = await upload(b"{}")
    with pytest.raises(openai.APIStatusError, match="Delete what you do not need"):
        await upload(b"{}")
    await client.files.delete(made.id)
    monkeypatch.setattr(kept, "MAX_ACCOUNT_BYTES", 10)
    with pytest.raises(openai.APIStatusError, match="Delete what you do not need"):
        await upload(b"{}")


async def test_files_and_broken_uploads_go_when_their_time_is_over(client, platform, database):
    made = await client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    now = datetime.now(UTC)
    await platform.context.files.begin(new_uuid7(), "user_somebody", 10, now)
    assert await platform.context.files.sweep(now) == 0
    assert await platform.context.files.sweep(now + timedelta(hours=2)) == 1
    assert (await client.files.retrieve(made.id)).id == made.id
    assert await platform.context.files.sweep(now + timedelta(days=31)) == 1
    assert (count(database, "file"), count(database, "file_line")) == (0, 0)
