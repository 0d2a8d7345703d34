"""What can go wrong with running a job, as one tree.

ClusterError
├── InvalidRequest        a field of the request is wrong (400)
├── NoCapacity            no node can take the job now (503, or 429 when the queue is full)
├── ModelUnavailable      no node offers the model (404)
│   └── NobodyOnline      no node offers anything, as just after the cluster's head was started: the model may be back soon (503)
├── NodeBusy              the node refused before starting: another candidate, same attempt number
├── NodeLost              the node, its connection or its runtime broke in the middle of an attempt
│   └── AttemptUnknown    the node lives and does not know the attempt: it is lost for good
├── AttemptSuperseded     a newer attempt of the job is known: whatever the old one says is ignored and unpaid
├── RuntimeFailed         the runtime on the node answered with an error (502)
├── RuntimeRefused        the runtime says that the request itself is wrong (400)
├── PoisonRequest         the request ended two runtimes: no third one is risked (400)
├── OperationRefused      an operator's wish about a model cannot be met: no such model, no memory, not allowed (409)
├── TooManyFailures       so much fails that nothing is tried again for now (503)
├── JobTimedOut           a deadline of the job passed (504)
└── ClusterUnreachable    neither the Dispatcher nor a recent snapshot is there (503)

Every error hands all its fields to the base class: otherwise it does not survive the way out of an actor (Ray 2.60).
"""


class ClusterError(Exception):
    """Root of what the cluster refuses or fails at."""


class InvalidRequest(ClusterError):
    """A field of the request is wrong; `param` is its path."""

    def __init__(self, detail: str, param: str | None = None) -> None:
        """Keep what is wrong."""
        super().__init__(detail, param)
        self.detail = detail
        self.param = param

    def __str__(self) -> str:
        """Say what is wrong."""
        return self.detail


class NoCapacity(ClusterError):
    """No node can take the job now."""

    def __init__(self, model: str, reasons: tuple[str, ...], retry_after_s: int) -> None:
        """Keep each refusing node's reason."""
        super().__init__(model, reasons, retry_after_s)
        self.model = model
        self.reasons = reasons
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Say why."""
        return f"no node can run `{self.model}` now: {'; '.join(self.reasons) or 'none is online'}"


class ModelUnavailable(ClusterError):
    """No node offers the model; `nearest` are known names that look alike."""

    def __init__(self, model: str, nearest: tuple[str, ...]) -> None:
        """Keep the names."""
        super().__init__(model, nearest)
        self.model = model
        self.nearest = nearest

    def __str__(self) -> str:
        """Say what to use instead."""
        hint = f" Known names nearest to it: {', '.join(self.nearest)}." if self.nearest else ""
        return f'Model "{self.model}" is not offered.{hint}'


class NobodyOnline(ModelUnavailable):
    """No node is online at all, so that nobody can say whether the model is offered."""

    retry_after_s = 5

    def __str__(self) -> str:
        """Say that it may come."""
        return f'No node is online now, so "{self.model}" cannot run. Try again in {self.retry_after_s} s.'


class NodeBusy(ClusterError):
    """The node refused before starting anything."""

    def __init__(self, node: str, reason: str, free: int) -> None:
        """Keep what the node said."""
        super().__init__(node, reason, free)
        self.node = node
        self.reason = reason
        self.free = free


class NodeLost(ClusterError):
    """The node or its connection went away during an attempt; what it did is unknown."""

    def __init__(self, node: str, detail: str) -> None:
        """Keep which node and how it was noticed."""
        super().__init__(node, detail)
        self.node = node
        self.detail = detail

    def __str__(self) -> str:
        """Say what happened."""
        return f"the node was lost: {self.detail}"


class AttemptUnknown(NodeLost):
    """The node does not know the attempt, or not any more."""


class AttemptSuperseded(ClusterError):
    """A newer attempt of this job is known to the node."""

    def __init__(self, job: str, attempt: int) -> None:
        """Keep the stale pair."""
        super().__init__(job, attempt)
        self.job = job
        self.attempt = attempt


class RuntimeFailed(ClusterError):
    """The runtime on the node failed; another node may succeed."""

    def __init__(self, status: int, detail: str) -> None:
        """Keep the runtime's status (0: no answer) and text."""
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        """Say what the runtime said."""
        return f"the model runtime failed: {self.detail}"


class RuntimeRefused(ClusterError):
    """The runtime says that the request is wrong; no other node would take it either."""

    def __init__(self, status: int, detail: str) -> None:
        """Keep the runtime's status and text."""
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        """Say what the runtime said."""
        return self.detail


class PoisonRequest(ClusterError):
    """The request ended the runtimes of two nodes; no third one is risked."""

    def __str__(self) -> str:
        """Say what to do."""
        return "This request ended the model runtime on two machines and is not tried again for an hour. It costs nothing; change it."


class OperationRefused(ClusterError):
    """What an operator wants done with a model cannot be done; `hint` says what to do instead."""

    def __init__(self, detail: str, hint: str = "") -> None:
        """Keep both sentences."""
        super().__init__(detail, hint)
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        """Say why not."""
        return self.detail


class TooManyFailures(ClusterError):
    """So much fails that nothing is tried again for now; `last` is what failed here."""

    retry_after_s = 5

    def __init__(self, last: str) -> None:
        """Keep the last failure's text."""
        super().__init__(last)
        self.last = last

    def __str__(self) -> str:
        """Say what to do."""
        return f"Too many jobs fail now to try this one again ({self.last}). Try again in {self.retry_after_s} s."


class JobTimedOut(ClusterError):
    """A deadline of the job passed."""

    def __init__(self, what: str, limit_s: float) -> None:
        """Name the deadline and its length."""
        super().__init__(what, limit_s)
        self.what = what
        self.limit_s = limit_s

    def __str__(self) -> str:
        """Say which one."""
        return f"{self.what} took longer than {self.limit_s:g} s"


class ClusterUnreachable(ClusterError):
    """Nobody can say which nodes there are."""

    def __init__(self, retry_after_s: int = 5) -> None:
        """Say when to come back."""
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Say what to do."""
        return f"The cluster cannot be reached now. Try again in {self.retry_after_s} s."
