"""What the Serve application itself refuses, beside the ledger's and the cluster's errors.

ServeError
├── TooLarge            413: the body
├── UnknownJob          404
├── UnknownNode         404
├── UnknownFile         404: or somebody else's
├── UnknownBatch        404: or somebody else's
├── FileInUse           409: a batch reads it
├── BatchOver           409: it has ended
├── NoRoom              413: the account's files
├── TooManyBatches      429
├── NotYourJob          403 (the seed's route) or 404
├── RequestReplayed     the Idempotency-Key was used before: answer the stored job
├── StillRunning        409: the stored job has no end yet
├── JobFailed           502: the stored job failed
├── DeliveryBroken      the stream broke after the first token: the job is incomplete
└── StoreUnavailable    503: job rows cannot be written
"""

import uuid


class ServeError(Exception):
    """Root of what the Serve application refuses."""


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
