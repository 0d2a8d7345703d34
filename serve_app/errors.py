"""What the Serve application itself refuses, beside the ledger's and the cluster's errors.

ServeError
├── InvalidRequest      400: a field is wrong
├── TooLarge            413: the body
├── UnknownJob          404
├── UnknownNode         404
├── UnknownWebhook      404: endpoint or delivery
├── WebhookExists       409: an endpoint with this URL
├── TooManyWebhooks     409: the account has as many as it may
├── WebhookDisabled     409
├── NotYourJob          403 (the seed's route) or 404
├── RequestReplayed     the Idempotency-Key was used before: answer the stored job
├── DeliveryBroken      the stream broke after the first token: the job is incomplete
└── StoreUnavailable    503: job rows cannot be written
"""

import uuid


class ServeError(Exception):
    """Root of what the Serve application refuses."""


class InvalidRequest(ServeError):
    """A field of the request is wrong."""

    def __init__(self, detail: str, param: str | None = None) -> None:
        super().__init__(detail, param)
        self.detail = detail
        self.param = param

    def __str__(self) -> str:
        """Say what is wrong."""
        return self.detail


class TooLarge(ServeError):
    """The body is larger than allowed."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        """Say the limit."""
        return f"The body is larger than {self.limit_bytes} bytes."


class UnknownJob(ServeError):
    """There is no such job."""

    def __str__(self) -> str:
        """In the seed's words."""
        return "No Job matches the given query."


class UnknownNode(ServeError):
    """There is no such node here now."""

    def __init__(self, node: str) -> None:
        super().__init__(node)
        self.node = node

    def __str__(self) -> str:
        """Say which."""
        return f"No node {self.node[:60]!r} is here now."


class UnknownWebhook(ServeError):
    """There is no such webhook, or delivery of one."""

    def __str__(self) -> str:
        """Say it of either."""
        return "No webhook or delivery of yours has this id."


class WebhookExists(ServeError):
    """The account has a webhook with this URL for the same jobs."""

    def __str__(self) -> str:
        """Say what to do."""
        return "There is a webhook with this URL for the same jobs already. Change that one, or rotate its secret if you lost it."


class TooManyWebhooks(ServeError):
    """The account has as many webhooks as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        """Say the limit and what to do."""
        return f"An account may have {self.limit} webhooks. Remove one that you do not need."


class WebhookDisabled(ServeError):
    """The delivery's endpoint gets nothing now."""

    def __str__(self) -> str:
        """Say what to do."""
        return "This webhook is disabled. Enable it first."


class NotYourJob(ServeError):
    """The job belongs to somebody else."""

    def __str__(self) -> str:
        """In the seed's words."""
        return "Unauthorized"


class RequestReplayed(ServeError):
    """The Idempotency-Key was used before with the same request."""

    def __init__(self, job: uuid.UUID) -> None:
        super().__init__(job)
        self.job = job


class DeliveryBroken(ServeError):
    """The answer broke off after its beginning was delivered."""

    def __init__(self, job: str, detail: str) -> None:
        super().__init__(job, detail)
        self.job = job
        self.detail = detail

    def __str__(self) -> str:
        """Say what it means for the consumer."""
        return f"The answer broke off: {self.detail}. Only what was delivered is charged, without the flat tariff."


class StoreUnavailable(ServeError):
    """Job rows cannot be written now."""

    retry_after_s = 2

    def __str__(self) -> str:
        """Say what to do."""
        return f"The platform's database does not answer now. Try again in {self.retry_after_s} s."
