"""Whether an agent's receipt is one: of the answer that was delivered, signed by the node's own key. Pure."""

from cluster.edge.mirror import Mirror
from cluster.edge.protocol import RuntimeUsage, SignedReceipt
from cluster.jobs import AgentReceipt
from cluster.receipts import Receipt, is_signed_by, text_sha256


def checked(mirror: Mirror, receipt: SignedReceipt, claimed: RuntimeUsage, reason: str, public_key: bytes) -> AgentReceipt | None:
    """Check the receipt of an answer of which all is here; None: it does not fit."""
    attempt = mirror.attempt
    if attempt is None or text_sha256("".join(mirror.contents), "".join(mirror.thinkings)) != receipt.text_sha256:
        return None
    said = Receipt(
        job=mirror.job, lease=mirror.lease, node=mirror.node, model_digest=attempt.model_digest, text_sha256=receipt.text_sha256,
        prompt_tokens=claimed.prompt_eval_count, completion_tokens=claimed.eval_count, reason=reason,
    )  # fmt: skip
    if not is_signed_by(said, receipt.signature, public_key):
        return None
    return AgentReceipt(
        text_sha256=said.text_sha256, model_digest=said.model_digest, prompt_tokens=said.prompt_tokens,
        completion_tokens=said.completion_tokens, signature=receipt.signature,
    )  # fmt: skip
