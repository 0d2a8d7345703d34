"""What the Serve application itself refuses, beside the ledger's and the cluster's errors.

ServeError
├── TooLarge            413: the body
├── UnknownJob          404
├── UnknownNode         404
├── UnknownRoute        404: nothing answers there
├── WrongMethod         405
├── UnknownWebhook      404: endpoint or delivery
├── WebhookExists       409: an endpoint with this URL
├── TooManyWebhooks     409: the account has as many as it may
├── WebhookDisabled     409
├── UnknownFile         404: or somebody else's
├── UnknownBatch        404: or somebody else's
├── FileInUse           409: a batch reads it
├── BatchOver           409: it has ended
├── NoRoom              413: the account's files
├── TooManyBatches      429
├── NotYourJob          403 (the seed's route) or 404
├── JobEnded            409: it cannot be canceled any more
├── QueueFull           503: too many wait for the model
├── RequestReplayed     the Idempotency-Key was used before: answer the stored job
├── StillRunning        409: the stored job has no end yet
├── JobFailed           502: the stored job failed
├── AnswerCanceled      499: the job was canceled while somebody read it
├── DeliveryBroken      the stream broke after the first token: the job is incomplete
└── StoreUnavailable    503: job rows cannot be written
"""

import uuid


class ServeError(Exception):
    """Root of what the Serve application refuses."""


class TooLarge(ServeError):
    """The body, or a part of it, is larger than allowed."""

    def __init__(self, limit_bytes: int, what: str = "body") -> None:
        super().__init__(limit_bytes, what)
        self.limit_bytes = limit_bytes
        self.what = what

    def __str__(self) -> str:
        """Say the limit."""
        return f"The {self.what} is larger than {self.limit_bytes} bytes."


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


class UnknownFile(ServeError):
    """There is no such file of the caller's."""

    def __str__(self) -> str:
        """Say so."""
        return "There is no such file of yours. `GET /v1/files` lists them."


class UnknownBatch(ServeError):
    """There is no such batch of the caller's."""

    def __str__(self) -> str:
        """Say so."""
        return "There is no such batch of yours. `GET /v1/batches` lists them."


class FileInUse(ServeError):
    """A batch that runs reads the file."""

    def __str__(self) -> str:
        """Say what to do."""
        return "A batch still reads this file. Cancel the batch or wait for its end."


class BatchOver(ServeError):
    """The batch has ended; there is nothing to cancel."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state

    def __str__(self) -> str:
        """Say how it ended."""
        return f"A batch that is `{self.state}` cannot be canceled."


class NoRoom(ServeError):
    """The account keeps as many files as it may."""

    def __init__(self, most_bytes: int, most_files: int) -> None:
        super().__init__(most_bytes, most_files)
        self.most_bytes = most_bytes
        self.most_files = most_files

    def __str__(self) -> str:
        """Say the limits and what to do."""
        return f"An account keeps at most {self.most_files} files and {self.most_bytes} bytes. Delete what you do not need any more."


class TooManyBatches(ServeError):
    """The account has as many batches under way as it may."""

    retry_after_s = 60

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most

    def __str__(self) -> str:
        """Say the limit."""
        return f"At most {self.most} batches of an account are under way at once. Cancel one, or wait until one has ended."


class NotYourJob(ServeError):
    """The job belongs to somebody else."""

    def __str__(self) -> str:
        """In the seed's words."""
        return "Unauthorized"


class UnknownRoute(ServeError):
    """Nothing answers at this path."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        """Say which."""
        return f"Nothing is at {self.path[:200]}."


class WrongMethod(ServeError):
    """The path answers to other methods."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.method = method

    def __str__(self) -> str:
        """Say which."""
        return f"{self.method} is not allowed here."


class JobEnded(ServeError):
    """The job has ended: there is nothing left to cancel."""

    def __str__(self) -> str:
        """Say so."""
        return "This job has ended; it cannot be canceled any more."


class QueueFull(ServeError):
    """So many jobs wait for the model that no more are taken."""

    retry_after_s = 30

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.model = model

    def __str__(self) -> str:
        """Say what to do."""
        return f"Too many jobs wait for `{self.model}`. Try again in {self.retry_after_s} s; nothing was charged."


class RequestReplayed(ServeError):
    """The Idempotency-Key was used before with the same request."""

    def __init__(self, job: uuid.UUID) -> None:
        super().__init__(job)
        self.job = job


class StillRunning(ServeError):
    """The request with this Idempotency-Key still runs."""

    retry_after_s = 2

    def __init__(self, job: str) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        """Say what to do."""
        return f"This request is still running as {self.job}. Ask again in {self.retry_after_s} s, or as a stream to read along."


class JobFailed(ServeError):
    """The job failed, some time ago."""

    def __init__(self, job: str, detail: str) -> None:
        super().__init__(job, detail)
        self.job = job
        self.detail = detail

    def __str__(self) -> str:
        """Say why."""
        return self.detail


class AnswerCanceled(ServeError):
    """The job was canceled by its owner before its answer was complete."""

    def __init__(self, job: str, cost: int) -> None:
        super().__init__(job, cost)
        self.job = job
        self.cost = cost  # micro-credits

    def __str__(self) -> str:
        """Say where the rest is."""
        return f"{self.job} was canceled. What it said until then, and what that cost, is at GET /api/computing/jobs/{self.job}/."


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
