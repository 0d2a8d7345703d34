"""`POST /api/computing/submit-job/` (S14, S15) and `POST /api/computing/quote/`: the same body; one begins a job, the other tells what it can cost."""

from dataclasses import replace
from typing import Any

from starlette.requests import Request

from cluster.errors import InvalidRequest, ModelUnavailable, NobodyOnline
from ledger.client import Price, credits_text, job_id, job_quote
from serve_app.api.answering_json import NOT_KEPT, both, require_caller
from serve_app.api.bodies import read_json
from serve_app.api.jobs_dialect import job_request
from serve_app.asking import checked_key
from serve_app.auth import credential_of
from serve_app.context import ServeContext
from serve_app.errors import RequestReplayed, StillRunning
from serve_app.job import JobRequest
from serve_app.placing import place, placement_of, require_awaited
from serve_app.problems import PlainJSON
from serve_app.submission import start_job

SCOPE = "jobs:write"


async def submit(request: Request, context: ServeContext) -> Any:
    """Begin a job that runs by itself."""
    await require_caller(request, context, SCOPE)
    asked = await _asked(request, context, idempotency_key=checked_key(request.headers.get("idempotency-key")))
    try:
        job = await start_job(context, credential_of(request.headers.get("authorization")), asked)
    except RequestReplayed as replayed:
        record = await context.store.find(replayed.job)
        if record is None:
            raise StillRunning(job_id(replayed.job)) from replayed
        return _submitted(job_id(record.id), record.held, {"Idempotent-Replayed": "true"})
    return _submitted(job.name, job.placed.held, {})


async def quote(request: Request, context: ServeContext) -> Any:
    """Tell the most that a job can cost and how long it is likely to wait. Nothing is held."""
    caller = await require_caller(request, context, SCOPE)
    asked = await _asked(request, context)
    price = context.feed.price_of(asked.model)
    is_at_once = place(context, placement_of(context, asked, caller)) is not None
    standing = None if is_at_once else await context.view.outlook(asked.model)
    return {
        "model": asked.model,
        "max_cost": credits_text(job_quote(price, asked.prompt_bytes, asked.max_tokens)),
        "price": price_row(price),
        "prompt_tokens": asked.prompt_bytes,  # at most: a token has a byte or more
        "max_tokens": asked.max_tokens,
        "wait": {"ahead": 0, "estimated_s": 0.0} if is_at_once
        else {"ahead": standing.ahead, "estimated_s": round(standing.estimated_s, 1)} if standing
        else None,
    }  # fmt: skip


def price_row(price: Price) -> dict[str, str]:
    """Write a price: credits per job, and per million tokens read and written."""
    return {
        "job": credits_text(price.flat),
        "prompt_per_million": credits_text(price.prompt_per_million),
        "completion_per_million": credits_text(price.completion_per_million),
    }


async def _asked(request: Request, context: ServeContext, idempotency_key: str | None = None) -> JobRequest:
    """Read the body, and see that what it names exists.

    Raises:
        TooLarge, InvalidRequest: It is too large, or a field is wrong.
        NobodyOnline: Nobody can say whether there is such a model.
    """
    settings = context.settings
    asked = job_request(
        await read_json(request),
        default_model=settings.default_model,
        default_max_tokens=settings.max_tokens,
        idempotency_key=idempotency_key,
    )
    try:
        longest = await require_awaited(context, asked.model)
    except NobodyOnline:
        raise
    except ModelUnavailable as unknown:
        raise InvalidRequest(str(unknown), "model") from unknown
    if asked.provider is not None and not await _is_known(context, asked.provider):
        raise InvalidRequest(f'Provider "{asked.provider}" is not known.', "provider")
    if longest is not None and asked.max_tokens > longest:
        raise InvalidRequest(f"`max_tokens` is {asked.max_tokens}, the model's context has {longest} tokens.", "max_tokens")
    return replace(asked, webhook=await context.webhooks.check_url(asked.webhook)) if asked.webhook else asked


async def _is_known(context: ServeContext, provider: str) -> bool:
    """Tell whether a name means a provider. The ledger may know it for two seconds already, and another replica too."""
    if context.feed.nodes_of(provider):
        return True
    await context.feed.catch_up()
    return bool(context.feed.nodes_of(provider))


def _submitted(job: str, held: int, headers: dict[str, str]) -> PlainJSON:
    said = {"status": "submitted", "job_id": job, "held": credits_text(held)}
    return PlainJSON(said, 201, NOT_KEPT | headers | {"Location": f"/api/computing/jobs/{job}/", "X-GFE-Job": job})


ROUTES = [*both("/api/computing/submit-job/", submit, "POST"), *both("/api/computing/quote/", quote, "POST")]
