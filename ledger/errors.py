"""What can go wrong with identity and money, as one tree.

LedgerError
├── NotAuthenticated           401 not_authenticated: no credential
│   ├── CredentialUnknown      401 token_not_valid: one that is not ours
│   ├── CredentialMistyped     401 key_mistyped: the checksum of an API key does not fit
│   └── CredentialRevoked      401 key_revoked
├── NotPermitted               403 not_permitted: the credential lacks a scope
├── InsufficientFunds          402 insufficient_funds
├── RateLimited                429 rate_limited, open_jobs
├── NotFound                   404 not_found
├── InvalidRequest             400 invalid_request
├── IdempotencyConflict        422 idempotency_conflict: same key, other content
├── HoldNotOpen                409 hold_captured, hold_voided, hold_expired
├── PaymentEnded               409 payment_ended: paid, refused or failed already
├── GatewayUnavailable         503 gateway_unavailable: the payment gateway does not answer
└── LedgerUnavailable          503 ledger_unavailable: outcome unknown, repeat with the same id

Each class has its wire code; `ledger.client` turns a code back into its class. All fields go to the base class, so that an error
survives pickling.
"""


class LedgerError(Exception):
    """Root of what the ledger refuses or fails at."""

    code = "ledger_error"


class NotAuthenticated(LedgerError):
    """The caller did not show a credential that the ledger knows."""

    code = "not_authenticated"

    def __str__(self) -> str:
        """Say what to do."""
        return "Authentication credentials were not provided."


class CredentialUnknown(NotAuthenticated):
    """The credential has the right form, but the ledger never issued it."""

    code = "token_not_valid"

    def __str__(self) -> str:
        """Say what to do."""
        return "Given token not valid for any token type"


class CredentialMistyped(NotAuthenticated):
    """The checksum of the API key does not fit: a typing or copying mistake."""

    code = "key_mistyped"

    def __str__(self) -> str:
        """Say what to do."""
        return "This API key is mistyped or cut off: its checksum does not fit. Copy the whole key again."


class CredentialRevoked(NotAuthenticated):
    """The API key was valid once and has been revoked."""

    code = "key_revoked"

    def __str__(self) -> str:
        """Say what to do."""
        return "This API key has been revoked. Use another key, or make one with `gfe keys create`."


class NotPermitted(LedgerError):
    """The credential lacks a scope."""

    code = "not_permitted"

    def __init__(self, scope: str) -> None:
        """Name the missing scope."""
        super().__init__(scope)
        self.scope = scope

    def __str__(self) -> str:
        """Say what to do."""
        return f"This credential lacks the scope `{self.scope}`."


class InsufficientFunds(LedgerError):
    """The account cannot pay; nothing was written."""

    code = "insufficient_funds"

    def __init__(self, available_micros: int, required_micros: int) -> None:
        """Keep both figures, in micro-credits."""
        super().__init__(available_micros, required_micros)
        self.available_micros = available_micros
        self.required_micros = required_micros

    def __str__(self) -> str:
        """Say what to do."""
        return "Insufficient funds"


class RateLimited(LedgerError):
    """A limit of the account is reached: requests per minute or open jobs."""

    code = "rate_limited"

    def __init__(self, limit: str, retry_after_s: int) -> None:
        """Name the limit and when to come back."""
        super().__init__(limit, retry_after_s)
        self.limit = limit
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Say what to do."""
        return f"Limit reached: {self.limit}. Try again in {self.retry_after_s} s."


class NotFound(LedgerError):
    """There is nothing of this kind with this id."""

    code = "not_found"

    def __init__(self, kind: str, id: str) -> None:  # noqa: A002 - the field's name on the wire
        """Name what was looked for."""
        super().__init__(kind, id)
        self.kind = kind
        self.id = id

    def __str__(self) -> str:
        """Say what to do."""
        return f"No {self.kind} matches the given query."


class InvalidRequest(LedgerError):
    """A field of the request is wrong."""

    code = "invalid_request"

    def __init__(self, param: str, detail: str) -> None:
        """Name the field and what is wrong with it."""
        super().__init__(param, detail)
        self.param = param
        self.detail = detail

    def __str__(self) -> str:
        """Say what to do."""
        return self.detail


class IdempotencyConflict(LedgerError):
    """The same id or key came with other content."""

    code = "idempotency_conflict"

    def __str__(self) -> str:
        """Say what to do."""
        return "This Idempotency-Key was used with another request. Send a new key with a new request."


class HoldNotOpen(LedgerError):
    """The hold was resolved before, in another way."""

    code = "hold_not_open"

    def __init__(self, state: str) -> None:
        """Say how: `captured`, `voided` or `expired`, or `unknown`."""
        super().__init__(state)
        self.state = state

    def __str__(self) -> str:
        """Say what happened."""
        return f"The hold is not open: {self.state}"


class PaymentEnded(LedgerError):
    """The deposit or withdrawal has ended; it cannot end in another way."""

    code = "payment_ended"

    def __init__(self, status: str) -> None:
        """Say how: `SUCCESS` or `FAILED`."""
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        """Say what happened."""
        return f"This transaction has ended: {self.status}"


class GatewayUnavailable(LedgerError):
    """The payment gateway does not answer or refuses; send the same request again."""

    code = "gateway_unavailable"

    def __init__(self, gateway: str, retry_after_s: int = 5) -> None:
        """Name the gateway and say when to come back."""
        super().__init__(gateway, retry_after_s)
        self.gateway = gateway
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Say what to do."""
        return f"The payment gateway does not answer now. Send the same request again in {self.retry_after_s} s."


class LedgerUnavailable(LedgerError):
    """The ledger did not answer in time; the outcome is unknown. Repeat with the same id."""

    code = "ledger_unavailable"

    def __init__(self, retry_after_s: int = 2) -> None:
        """Say when to come back."""
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Say what to do."""
        return f"The ledger does not answer now. Try again in {self.retry_after_s} s."
