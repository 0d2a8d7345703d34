"""Lets `litellm` show what it can, through the provider that a request names: one request a line, one answer a line (`program.py`).

Runs in the environment of requirements/clients.txt, apart from ours. One coroutine per feature; answers are in OpenAI's form whatever the provider.
"""

import asyncio
import json
import sys
import traceback

HERE = {"127.0.0.1", "localhost", "::1", None}


def stay_here(event, arguments):
    """Refuse what leaves this machine: prices, models and telemetry are nobody's business here."""
    if event == "socket.getaddrinfo" and arguments[0] not in HERE:
        raise ConnectionRefusedError(f"looks for {arguments[0]}")
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in HERE:
        raise ConnectionRefusedError(f"connects to {arguments[1]}")


sys.addaudithook(stay_here)

import litellm  # noqa: E402 - it might fetch something as soon as it is imported

litellm.suppress_debug_info = True
FEATURES = {}
PATHS = {"openai": "/v1", "ollama_chat": "", "anthropic": ""}


def feature(function):
    """Enter a coroutine under its name."""
    FEATURES[function.__name__] = function
    return function


class At:
    """Where requests go: the provider and the API's address and key."""

    def __init__(self, provider, url, key):
        self.provider, self.url, self.key = provider, url + PATHS[provider], key

    def named(self, model, provider=None):
        return {"model": f"{provider or self.provider}/{model}", "api_base": self.url, "api_key": self.key, "num_retries": 0}

    async def ask(self, model, messages, **more):
        return await litellm.acompletion(messages=messages, **(self.named(model) | more))


async def refused(asking):
    """Tell how a request was refused."""
    try:
        await asking
    except Exception as error:  # noqa: BLE001 - each kind is the client's own
        return {"kind": type(error).__name__, "status": getattr(error, "status_code", None), "message": str(error)}
    return None


@feature
async def chat(at, given):
    return await at.ask("fake:words=3", given["hello"])


@feature
async def stream(at, given):
    pieces = await at.ask("fake:words=16", given["hello"], stream=True, stream_options={"include_usage": True})
    return [piece.model_dump() async for piece in pieces]


@feature
async def limit(at, given):
    return await at.ask("fake:words=16", given["hello"], max_tokens=2)


@feature
async def tools(at, given):
    first = await at.ask("fake:tools", given["hello"], tools=[given["tool"]])
    message = first.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "name": "weather", "content": "sunny"}
    await at.ask("fake:tools", [*given["hello"], message.model_dump(), result], tools=[given["tool"]])
    return first


@feature
async def schema(at, given):
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": given["schema"]}}
    return await at.ask("fake:words=3", given["hello"], response_format=form)


@feature
async def forced(at, given):
    tools = [given["other"], given["tool"]]
    choices = ({"type": "function", "function": {"name": "weather"}}, "required")
    return [(await at.ask("fake:words=3", given["hello"], tools=tools, tool_choice=choice)).model_dump() for choice in choices]


@feature
async def logprobs(at, given):
    return await at.ask("fake:words=3", given["hello"], logprobs=True, top_logprobs=2)


@feature
async def images(at, given):
    url = f"data:image/png;base64,{given['pixel']}"
    parts = [{"type": "text", "text": "hello there"}, {"type": "image_url", "image_url": {"url": url}}]
    return await at.ask("fake:sees", [{"role": "user", "content": parts}])


@feature
async def thinking(at, given):
    wished = {"reasoning_effort": "low", "allowed_openai_params": ["reasoning_effort"]}
    return await at.ask("fake:thinks", given["hello"], max_tokens=2000, **wished)


@feature
async def embeddings(at, given):
    return await litellm.aembedding(input=["one", "two"], **at.named("fake:embeds"))


@feature
async def keyless(at, given):
    return await refused(litellm.aembedding(input=["one", "two"], **at.named("fake:embeds", "ollama")))


@feature
async def models(at, given):
    asking = {"custom_llm_provider": at.provider, "api_base": at.url.removesuffix("/v1"), "api_key": at.key}
    return await asyncio.to_thread(litellm.get_valid_models, check_provider_endpoint=True, **asking)


@feature
async def errors(at, given):
    hello = given["hello"]

    async def broken():
        return [piece async for piece in await at.ask("fake:cut@2", hello, stream=True)]

    return {
        "missing": await refused(at.ask("nothing", hello)),
        "nobody": await refused(at.ask("fake:words=3", hello, api_key="gfe_live_nobody")),
        "failed": await refused(at.ask("fake:500", hello)),
        "broken": await refused(broken()),
    }


@feature
async def cancel(at, given):
    pieces = await at.ask("fake:drip=0.1", given["hello"], stream=True)
    piece = await anext(aiter(pieces))
    await pieces.aclose()
    return piece


@feature
async def repeat(at, given):
    async def once():
        return await at.ask("fake:words=3", given["hello"], extra_headers={"Idempotency-Key": given["repeat"]})

    return [(await once()).model_dump(), (await once()).model_dump()]


def plain(answer):
    """An answer as JSON can hold it."""
    return answer.model_dump() if hasattr(answer, "model_dump") else answer


async def serve(answers):
    """Answer lines until there are no more."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        at = At(request["client"], request["url"], request["key"])
        try:
            answer = {"said": plain(await FEATURES[request["feature"]](at, request["given"]))}
        except Exception:  # noqa: BLE001 - whatever it is, the test is told
            answer = {"threw": traceback.format_exc()[-4000:]}
        print(json.dumps(answer, default=str), file=answers, flush=True)


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout, sys.stderr  # a library that prints must not be taken for an answer
    asyncio.run(serve(answers))
