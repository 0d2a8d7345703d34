"""docs/reference/api.md: every example is run, and prints what the API answers to the same call."""

import json
import re
import uuid

import pytest

from ledger.identity.people import ALL_SCOPES
from serve_app.api.reference import OPENAPI
from serve_app.local.api_examples import BODIES, USES, Call, File, curl, javascript, python
from serve_app.local.api_reference import GROUPS, operations
from tests.clients.examples import MODEL, first, offer, run
from tests.edge_agent import Account
from tests.ledger.people import somebody
from tests.platform_in_process import Platform
from tests.serve_app.consumers import Consumer
from tests.serve_app.webhooks import desk

WRITERS = {"sh": lambda call: f"{curl(call)} -sS --fail-with-body", "python": python, "javascript": javascript}
CALLS = [Call.of(*one) for _, prefixes in GROUPS for one in operations(prefixes)]
LINE = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "hello"}]}}
UNTIL = {"stream_updates": re.compile(r"event: jobs_update\ndata: .+\n")}  # what never ends
PUT_TOGETHER = {"output_text": "output[0].content[0].text"}  # by a client, from what the API says
SHOWN_OF_A_LIST = 100  # by JavaScript's console.log


@pytest.fixture(scope="module")
async def readers(platform):
    """Keys of people by the call that they read of: nobody sees what another's examples made."""
    await offer(platform)
    return {}


@pytest.fixture
async def offered(platform, readers, call):
    """The platform as its reader sees it."""
    if call.operation not in readers:
        readers[call.operation] = await (await somebody(platform.ledger, f"reader{len(readers)}")).key(scopes=sorted(ALL_SCOPES))
    return Platform(**vars(platform) | {"key": readers[call.operation]})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "requests.jsonl").write_text(json.dumps(LINE))
    return tmp_path


# --- what must be there before a call -----------------------------------------------------------------------------------------------------


async def made_file(consumer):
    form = {"data": {"purpose": "batch"}, "files": {"file": ("requests.jsonl", json.dumps(LINE).encode())}}
    return (await consumer.call("POST", "/v1/files", **form)).json()["id"]


async def made_batch(consumer):
    body = {"input_file_id": await made_file(consumer), "endpoint": LINE["url"], "completion_window": "24h"}
    return (await consumer.call("POST", "/v1/batches", json=body)).json()["id"]


async def made_job(consumer, *, is_running):
    if not is_running:
        await consumer.ended(name := await consumer.submitted())
        return name
    name = await consumer.submitted(model="fake:drip=5")
    await consumer.reaches(name, "RUNNING")
    return name


async def made_delivery(platform):
    """A webhook, and what was sent to it."""
    hook = await desk.add(platform, f"https://93.184.216.34/{uuid.uuid4().hex}")
    return hook["id"], (await desk.call(platform, "POST", f"{hook['id']}/test/")).json()["id"]


async def made_node(platform):
    """An edge node of the reader's; its agent never came."""
    _, node = await Account(platform.ledger.http, platform.key).enrolled()
    await platform.context.feed.poll()
    return node


async def meant(platform, call):
    """Make what a call needs to be there; answers what the words of its example stand for."""
    consumer = Consumer(platform)
    if call.operation == "add_webhook":
        return {"example.org": "93.184.216.34", "told": uuid.uuid4().hex}  # names cannot be looked up everywhere
    if call.operation == "create_batch":
        return {"file_…": await made_file(consumer)}
    if call.path.startswith("/v1/models"):
        return {"{id}": MODEL}
    if call.path.startswith("/v1/files"):
        return {"{id}": await made_file(consumer)}
    if call.path.startswith("/v1/batches"):
        return {"{id}": await made_batch(consumer)}
    if call.path.startswith("/api/computing/webhooks/"):
        hook, delivery = await made_delivery(platform)
        return {"{id}": delivery if "/deliveries/{id}/" in call.path else hook}
    if call.path.startswith("/api/computing/nodes/"):
        return {"{id}": await made_node(platform)}
    if call.path.endswith("/receipt/"):
        name = await made_job(consumer, is_running=False)
        await platform.settled()
        return {"{id}": name}
    if "{id}" in call.path:
        return {"{id}": await made_job(consumer, is_running=call.operation == "cancel_job" or call.method == "DELETE")}
    return {}


def with_these(text, words):
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text


# --- what is compared ---------------------------------------------------------------------------------------------------------------------


async def answered(platform, call, words):
    """What the API answers to the call, asked without any example."""
    path, headers = with_these(call.path, words), platform.bearer if call.needs_key else {}
    if call.operation in UNTIL:
        async with platform.http.stream(call.method, path, headers=headers) as answer:
            return await first(UNTIL[call.operation], answer.aiter_raw())
    sent = {}
    if files := {name: (value.name, json.dumps(LINE).encode()) for name, value in call.body.items() if isinstance(value, File)}:
        sent = {"files": files, "data": {name: value for name, value in call.body.items() if name not in files}}
    elif call.body:
        sent = {"content": with_these(json.dumps(call.body, ensure_ascii=False), words)}
    answer = await platform.http.request(call.method, path, headers=headers, **sent)
    assert answer.is_success, answer.text
    return answer.text


def lasting(text):
    """A text without what is another one each time: names, secrets, figures and moments."""
    text = re.sub(r"whsec_[\w+/=]+|[0-9a-f]{32}", "secret", text)
    text = re.sub(r"\b[a-z]+_(?=\w*\d)\w{8,}", "name", text)
    return re.sub(r"\d+(\.\d+)?(e-?\d+)?", "0", text)


def value_at(answer, place):
    """What stands in an answer where a client's example looks."""
    for step in re.findall(r"\w+", PUT_TOGETHER.get(place, place)):
        answer = answer[int(step) if step.isdigit() else step]
    return answer


def words_in(text):
    """A printed text, or a printed list of either language, word by word; numbers as such."""
    words = []
    for word in re.findall(r"[^\s\[\]',]+", text)[:SHOWN_OF_A_LIST]:
        try:
            words.append(float(word))
        except ValueError:
            words.append(lasting(word))
    return words


@pytest.mark.parametrize("language", WRITERS)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
async def test_an_example_prints_what_the_api_answers(offered, folder, call, language):
    words = await meant(offered, call)
    answer = await answered(offered, call, words)
    if call.method != "GET":
        words = await meant(offered, call)
    code = with_these(WRITERS[language](call), words)
    said = await run(offered, language, code, folder, until=UNTIL.get(call.operation))
    if call.operation in USES and language != "sh":
        shown = value_at(json.loads(answer), USES[call.operation].shown)
        assert words_in(said) == pytest.approx(words_in(str(shown)))
    else:
        assert lasting(said).strip() == lasting(answer).strip()


def test_every_route_has_an_example_and_none_is_of_another():
    described = {operation["operationId"]: operation for path in OPENAPI["paths"].values() for operation in path.values()}
    assert sorted(call.operation for call in CALLS) == sorted(described)
    assert set(BODIES) == {name for name, operation in described.items() if "requestBody" in operation}
    assert set(USES) <= set(BODIES)
