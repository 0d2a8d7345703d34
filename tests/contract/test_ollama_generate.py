"""Generations and vectors. What any Ollama API keeps, ours and a real one; the numbers are those of the Ollama reference, section 7."""

import pytest

from cluster.jobs import JobKind
from cluster.runtime.ollama import OllamaRuntime, RuntimeText
from tests.contract.ollama_runtimes import ANY_LENGTH, EMBED_BY_CHAT_MODEL, RAW, RENDER, STEADY


def test_15_the_answers_count_is_that_of_its_text(runtime):
    runtime.needs(RAW)
    said = runtime.chat().json()
    recount = runtime.generate(said["message"]["content"], raw=True, options={**STEADY, "num_predict": 1}).json()["prompt_eval_count"]
    assert said["done_reason"] == "stop"
    assert recount in {said["eval_count"], said["eval_count"] - 1}  # the end may be a token of its own


def test_19_generate_with_prompt_and_system(runtime):
    plain = runtime.generate("Say hello").json()
    assert plain["response"]
    assert "message" not in plain
    system = runtime.generate("Say hello", system="You are a pirate who loves the sea.").json()
    assert system["prompt_eval_count"] != plain["prompt_eval_count"]


def test_20_generate_raw(runtime):
    runtime.needs(RAW)
    prompt = "The capital of France is"
    said = runtime.generate(prompt, raw=True, options={**STEADY, "num_predict": 6}).json()
    assert said["response"]
    refused = runtime.generate(prompt, raw=True, system="x")
    assert (refused.status_code, "raw mode" in refused.json()["error"]) == (400, True)


def test_20_a_raw_generation_has_a_format_and_logprobs_too(runtime):
    runtime.needs(RAW)
    said = runtime.generate("A city:", raw=True, format="json", logprobs=True, top_logprobs=2, options={**STEADY, "num_predict": 4}).json()
    assert said["response"].lstrip().startswith("{")
    assert [len(row["top_logprobs"]) for row in said["logprobs"]] == [2] * len(said["logprobs"])


def test_29_a_generation_without_a_model_is_404(runtime):
    answer = runtime.post("/api/generate", {"prompt": "hi"})
    assert (answer.status_code, answer.json()["error"]) == (404, "model '' not found")


def test_37_embeddings_have_length_one(runtime):
    vectors = vectors_of(runtime, input=["one", "two"])
    assert [len(vector) for vector in vectors] == [576, 576]
    assert [sum(value * value for value in vector) for vector in vectors] == pytest.approx([1, 1], abs=1e-3)
    assert vectors_of(runtime, input="one")[0] == pytest.approx(vectors[0], abs=1e-3)
    assert vectors_of(runtime, input="") == []
    assert vectors_of(runtime, input=[]) == []


def test_37_an_input_that_is_no_text_is_refused(runtime):
    answer = runtime.post("/api/embed", {"model": runtime.model, "input": [1]})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid input type")


def test_37_the_old_route_gives_one_vector_of_any_length(runtime):
    runtime.needs(ANY_LENGTH)
    (new,) = vectors_of(runtime, input="one")
    old = runtime.post("/api/embeddings", {"model": runtime.model, "prompt": "one"}).json()["embedding"]
    length = sum(value * value for value in old) ** 0.5
    assert length > 1.5
    assert [value / length for value in old] == pytest.approx(new, abs=1e-3)
    assert runtime.post("/api/embeddings", {"model": runtime.model, "prompt": ""}).json() == {"embedding": []}


def vectors_of(runtime, **body):
    runtime.needs(EMBED_BY_CHAT_MODEL)
    answer = runtime.post("/api/embed", {"model": runtime.model, **body})
    if answer.status_code == 501:
        pytest.skip("this Ollama does not embed with chat models")
    return answer.json()["embeddings"]


async def test_57_raw_generation_goes_on_with_a_chat_that_was_cut_before_a_word(runtime):
    """The rule of continuation: rendered chat, then the text up to the start of any word, gives the rest of the unbroken answer."""
    runtime.needs(RAW, RENDER)
    client = OllamaRuntime(runtime.url)
    await client.start()
    try:
        chat = {"messages": [{"role": "user", "content": "Tell me a story about a dog."}], "options": {"temperature": 0, "seed": 1}}
        unbroken = await spoken(client, runtime, JobKind.CHAT, chat, 40)
        prompt = await client.render(runtime.model, chat)
        blanks = [place for place, letter in enumerate(unbroken) if letter == " "]
        assert len(blanks) > 5
        for cut in blanks[2::6]:
            raw = {"raw": True, "prompt": prompt + unbroken[:cut], "options": chat["options"]}
            rest = await spoken(client, runtime, JobKind.GENERATE, raw, 12)
            assert rest
            assert unbroken.startswith(unbroken[:cut] + rest) or (unbroken[:cut] + rest).startswith(unbroken), cut
    finally:
        await client.aclose()


async def spoken(client, runtime, kind, request, max_tokens):
    texts = []
    async for piece in client.stream(kind, runtime.model, request, max_tokens):
        if isinstance(piece, RuntimeText):
            texts.append(piece.content)
    return "".join(texts)
