"""Who counts the tokens: the model's own tokenizer where we have it, else the runtime's claim, bounded by what was delivered."""

from cluster.errors import RuntimeFailed, RuntimeRefused
from cluster.jobs import Attempt, JobKind, Usage
from cluster.nodes import OfferedModel
from cluster.prompt_size import most_tokens
from cluster.runtime.ollama import OllamaRuntime, RuntimeEnd


def prompt_text(attempt: Attempt) -> str:
    """Tell what is generated from or embedded, as one text."""
    text = attempt.request.get("prompt") or attempt.request.get("input") or ""
    return text if isinstance(text, str) else "\n".join(map(str, text))


def might_not_fit(attempt: Attempt, model: OfferedModel) -> bool:
    """Whether prompt and answer could exceed the model's context; then it is worth waiting for the exact count."""
    return most_tokens(attempt.request) + attempt.max_tokens > model.context_tokens


def misfit(attempt: Attempt, model: OfferedModel, prompt_tokens: int) -> str | None:
    """Tell why a counted prompt cannot be answered; None: it can."""
    if prompt_tokens + attempt.max_tokens <= model.context_tokens:
        return None
    return (
        f"the prompt has {prompt_tokens} tokens; with {attempt.max_tokens} for the answer it exceeds the context of {model.context_tokens}"
    )


async def count_prompt(runtime: OllamaRuntime, attempt: Attempt) -> int | None:
    """Count a prompt as the model reads it; None when nobody here can."""
    try:
        if attempt.kind is JobKind.CHAT:
            return await runtime.count_tokens(attempt.model, messages=list(attempt.request["messages"]))
        return await runtime.count_tokens(attempt.model, text=prompt_text(attempt))
    except (RuntimeFailed, RuntimeRefused):
        return None


async def count_answer(runtime: OllamaRuntime, attempt: Attempt, text: str) -> int | None:
    """Count an answer; None when nobody here can."""
    if not text:
        return 0
    try:
        return await runtime.count_tokens(attempt.model, text=text)
    except (RuntimeFailed, RuntimeRefused):
        return None


def platform_usage(attempt: Attempt, prompt_tokens: int, completion_tokens: int) -> Usage:
    """Make the usage of our own counts. A stop token that is not part of the text is not counted; the hold's limit is never exceeded."""
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=min(completion_tokens, attempt.max_tokens), counted_by="platform")


def provider_usage(
    attempt: Attempt, end: RuntimeEnd | None, answer_bytes: int, pieces: int, tokens_before: int = 0, said_tokens: int = 0
) -> Usage:
    """Make the usage of the runtime's claim: at most a token per delivered byte, and never above the hold's limit.

    `tokens_before` of the answer stood in the prompt; `said_tokens` were delivered by earlier attempts, and count in every case.
    """
    claimed = end.completion_tokens if end and end.completion_tokens is not None else pieces
    prompt = end.prompt_tokens if end and end.prompt_tokens is not None else 0
    written = max(said_tokens, tokens_before + claimed)
    return Usage(
        prompt_tokens=max(0, min(prompt - tokens_before, most_tokens(attempt.request))),
        completion_tokens=max(0, min(written, attempt.max_tokens, answer_bytes + 1 if answer_bytes else 0)),
        counted_by="provider",
    )
