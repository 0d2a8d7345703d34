"""How long an attempt may take, from what its node learned of the model (faults reference 2.1). Pure."""

from cluster.jobs import Deadlines
from cluster.limits import Limits
from cluster.nodes import OfferedModel

WARM_FIRST_TOKEN_S = 10.0
SLOWEST_READING = 400.0  # bytes of a prompt per second: a hundred tokens, a small model on a slow CPU
TIMES_P99 = 3.0
TIMES_WRITING = 4.0  # how many times longer than expected an answer may take: others may come and share the GPU
LEAST_TOTAL_S = 60.0


def deadlines_of(
    model: OfferedModel | None, max_tokens: int, limits: Limits, *, prompt_bytes: int = 0, has_failed: bool = False
) -> Deadlines:
    """Tell the deadlines of an attempt for a model as its node offers it; None: nobody knows it, the longest ones count.

    The first token may take 10 s and the reading of the prompt (with a model load: `limits.first_token_s`), or three times the model's p99;
    all of it four times what the answer is expected to take. Nothing may take longer than `limits.total_s`. `has_failed`: the node lost this
    very job before, so its model may have to be loaded anew, whatever its last inventory says.
    """
    if model is None:
        return Deadlines(first_token_s=limits.first_token_s, idle_s=limits.idle_s, total_s=limits.total_s)
    warm_s = min(WARM_FIRST_TOKEN_S + prompt_bytes / SLOWEST_READING, limits.first_token_s)
    first_token_s = max(
        warm_s if model.is_loaded and not has_failed else limits.first_token_s, TIMES_P99 * (model.first_token_p99_s or 0.0)
    )
    total_s = limits.total_s
    if model.tokens_per_s:
        expected_s = max_tokens / model.tokens_per_s
        total_s = min(total_s, max(LEAST_TOTAL_S, first_token_s + TIMES_WRITING * expected_s))
    return Deadlines(first_token_s=min(first_token_s, limits.total_s), idle_s=limits.idle_s, total_s=total_s)
