"""What can go wrong with identity and money, as one tree.

LedgerError
├── NotAuthenticated           401 not_authenticated: no credential
│   ├── CredentialUnknown      401 token_not_valid: one that is not ours
│   ├── CredentialMistyped     401 key_mistyped: the checksum of an API key does not fit
│   ├── CredentialRevoked      401 key_revoked
│   ├── CredentialExpired      401 key_expired
│   ├── TokenInvalid           401 token_not_valid: a refresh token or a code from a mail
│   ├── SignInRefused          401 sign_in_refused: no such account, or another password
│   ├── SignInFailed           401 sign_in_failed: another service did not say who it is
│   ├── TotpRequired           401 totp_required, totp_wrong
│   ├── EnrollCodeInvalid      401 enroll_code_invalid: unknown, used or expired, one answer for all
│   ├── AgentRevoked           401 agent_revoked
│   └── BadSignature           401 bad_signature: an agent's proof does not fit its key, its nonce or this platform
├── NotPermitted               403 not_permitted: the credential lacks a scope
│   ├── ModelNotAllowed        403 model_not_allowed: the key is for other models
│   ├── OwnNode                403 own_node: nobody is paid for serving their own job
│   ├── OriginRefused          403 origin_refused: a cookie came from a page that is not ours
│   └── NotFresh               403 not_fresh: what moves money out needs the second factor again
├── InsufficientFunds          402 insufficient_funds
├── BudgetExceeded             402 budget_exceeded: of the key, for the day, the month or in all
├── RateLimited                429 rate_limited, open_jobs
├── NotFound                   404 not_found
│   └── NoSuchAgentToken       404 not_found, with the seed's text
├── InvalidRequest             400 invalid_request
│   ├── InvalidFields          400 invalid_request: several fields
│   └── TooManyAgents          400 too_many_agents
├── KeyInUse                   409 key_in_use: an agent's key belongs to a node already
├── NetworkFull                409 network_full: as many nodes on probation come from this network as may
├── IdempotencyConflict        422 idempotency_conflict: same key, other content
├── HoldNotOpen                409 hold_captured, hold_voided, hold_expired
├── AppealOpen                 409 appeal_open: an appeal of this node waits for its answer
├── AppealDecided              409 appeal_decided: an operator has answered this appeal
├── PaymentEnded               409 payment_ended: paid, refused or failed already
├── GatewayUnavailable         503 gateway_unavailable: the payment gateway does not answer
└── LedgerUnavailable          503 ledger_unavailable: outcome unknown, repeat with the same id
    └── BooksUnderReview       503 books_under_review: an audit found these accounts wrong; nothing new is held on them

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


class CredentialExpired(NotAuthenticated):
    """The API key was valid until a time that has passed."""

    code = "key_expired"

    def __str__(self) -> str:
        """Say what to do."""
        return "This API key has expired. Use another key, or make one with `gfe keys create`."


class TokenInvalid(NotAuthenticated):
    """A refresh token or a code from a mail is unknown, used or expired; which of them is nobody's business."""

    code = "token_not_valid"

    def __str__(self) -> str:
        """In the seed's words."""
        return "Token is invalid"


class SignInRefused(NotAuthenticated):
    """There is no such account, or its password is another."""

    code = "sign_in_refused"

    def __str__(self) -> str:
        """In the seed's words; the same for both."""
        return "No active account found with the given credentials"


class TotpRequired(NotAuthenticated):
    """The account has a second factor: its six digits are missing, wrong or used."""

    code = "totp_required"

    def __str__(self) -> str:
        """Say what to do."""
        return "Send the current six digits of your authenticator as `code`."


class SignInFailed(NotAuthenticated):
    """Signing in through another service did not work. `outcome` is what the console is told."""

    code = "sign_in_failed"

    def __init__(self, provider: str, reason: str, outcome: str = "oauth_failed") -> None:
        """Name the service and what is wrong."""
        LedgerError.__init__(self, provider, reason, outcome)
        self.provider = provider
        self.reason = reason
        self.outcome = outcome

    def __str__(self) -> str:
        """Say what happened."""
        return f"Signing in with {self.provider} did not work: {self.reason}."


class EnrollCodeInvalid(NotAuthenticated):
    """The enrollment code is unknown, used, revoked or expired; which of them is nobody's business."""

    code = "enroll_code_invalid"

    def __str__(self) -> str:
        """Say what to do."""
        return "This enrollment code is not valid. A code works once, for 10 minutes: make a new one."


class AgentRevoked(NotAuthenticated):
    """The node was revoked, deregistered or banned by its owner or the operator."""

    code = "agent_revoked"

    def __init__(self, state: str = "revoked", reason: str | None = None) -> None:
        super().__init__(state, reason)
        self.state = state  # of the node
        self.reason = reason

    def __str__(self) -> str:
        """Say what to do; of a ban, why."""
        if self.state == "banned":
            return f"This node is banned. {self.reason or ''}".strip()
        return "This agent has been revoked. Enroll again with a new code."


class BadSignature(NotAuthenticated):
    """The signature does not fit the node's key, the nonce or this platform; or the nonce is used or expired."""

    code = "bad_signature"

    def __str__(self) -> str:
        """Say what to do."""
        return "The signature does not fit. Ask for a new nonce and sign it for this platform."


class KeyInUse(LedgerError):
    """The public key belongs to a node already."""

    code = "key_in_use"

    def __str__(self) -> str:
        """Say what to do."""
        return "This key belongs to a node already. Make a new key and enroll with it."


class NetworkFull(LedgerError):
    """As many nodes on probation were enrolled from one network as may be."""

    code = "network_full"

    def __init__(self, network: str, limit: int) -> None:
        """Name the network and the limit."""
        super().__init__(network, limit)
        self.network = network
        self.limit = limit

    def __str__(self) -> str:
        """Say what to do."""
        return (
            f"{self.limit} nodes on probation were enrolled from this network ({self.network}) already. Deregister one that you do not need, wait until "
            "one has done its first 50 jobs, or ask the operator to raise GFE_NODES_PER_NETWORK. The code stays good until it expires."
        )


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


class ModelNotAllowed(NotPermitted):
    """The key is for other models."""

    code = "model_not_allowed"

    def __init__(self, model: str) -> None:
        """Name the model."""
        LedgerError.__init__(self, model)
        self.model = model

    def __str__(self) -> str:
        """Say what to do."""
        return f"This key is not for the model `{self.model}`. Use another key, or change its models."


class OwnNode(NotPermitted):
    """The node belongs to the consumer: nobody earns from their own jobs. The operator's trusted nodes serve everybody."""

    code = "own_node"

    def __init__(self, node: str) -> None:
        """Name the node."""
        LedgerError.__init__(self, node)
        self.node = node

    def __str__(self) -> str:
        """Say why."""
        return "This node belongs to the job's consumer: nobody is paid for serving their own job."


class OriginRefused(NotPermitted):
    """A request with a cookie came from a page that is not ours, or without its header."""

    code = "origin_refused"

    def __init__(self) -> None:
        """Nothing to name."""
        LedgerError.__init__(self)

    def __str__(self) -> str:
        """Say what to do."""
        return "Send the header `X-GFE-CSRF: 1` from an origin that is listed in GFE_CONSOLE_ORIGINS."


class NotFresh(NotPermitted):
    """What moves money out needs the second factor, given within the last minutes."""

    code = "not_fresh"

    def __init__(self) -> None:
        """Nothing to name."""
        LedgerError.__init__(self)

    def __str__(self) -> str:
        """Say what to do."""
        return "Confirm with your authenticator first: POST /api/core/totp/fresh/ with its six digits, then send this again."


class BudgetExceeded(LedgerError):
    """The key may not spend that much any more."""

    code = "budget_exceeded"

    def __init__(self, period: str, left_micros: int, required_micros: int) -> None:
        """Name the period (`day`, `month` or `total`) and keep both figures, in micro-credits."""
        super().__init__(period, left_micros, required_micros)
        self.period = period
        self.left_micros = left_micros
        self.required_micros = required_micros

    def __str__(self) -> str:
        """Say what to do."""
        return f"The budget of this API key ({self.period}) does not cover this request. Raise it, or use another key."


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

    def __init__(self, limit: str, retry_after_s: int, capacity: int = 0) -> None:
        """Name the limit, when to come back, and how many it allows, where that is a number per minute."""
        super().__init__(limit, retry_after_s, capacity)
        self.limit = limit
        self.retry_after_s = retry_after_s
        self.capacity = capacity

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


class NoSuchAgentToken(NotFound):
    """The caller has no agent token with this id that is not revoked."""

    def __init__(self, id: str) -> None:  # noqa: A002 - the field's name on the wire
        """Name what was looked for."""
        LedgerError.__init__(self, id)
        self.kind = "Agent token"
        self.id = id

    def __str__(self) -> str:
        """Say what to do."""
        return "Token not found or already revoked."


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


class InvalidFields(InvalidRequest):
    """Several fields of the request are wrong."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        """Keep the texts by field."""
        LedgerError.__init__(self, errors)
        self.errors = errors
        self.param, texts = next(iter(errors.items()))
        self.detail = texts[0]


class TooManyAgents(InvalidRequest):
    """The person has as many agents and open codes as an account may have."""

    code = "too_many_agents"

    def __init__(self, limit: int) -> None:
        """Say how many that is."""
        LedgerError.__init__(self, limit)
        self.limit = limit
        self.param = ""
        self.detail = f"Maximum {limit} active tokens allowed. Revoke an existing token first."


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


class JobNotSettled(LedgerError):
    """The job's hold is open: what it costs is not decided yet."""

    code = "not_settled"

    def __str__(self) -> str:
        """Say what to do."""
        return "This job is not settled yet. Its receipt is there a moment after its end."


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


class AppealOpen(LedgerError):
    """An appeal of this node waits for its answer."""

    code = "appeal_open"

    def __str__(self) -> str:
        """Say what to do."""
        return "An appeal of this node is open already. An operator will answer it."


class AppealDecided(LedgerError):
    """An operator has answered this appeal."""

    code = "appeal_decided"

    def __str__(self) -> str:
        """Say what happened."""
        return "This appeal is decided already."


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


class BooksUnderReview(LedgerUnavailable):
    """An audit found the books of this account wrong: until that is cleared up nothing new is held on it."""

    code = "books_under_review"

    def __init__(self, retry_after_s: int = 60) -> None:
        """Say when to come back."""
        super().__init__(retry_after_s)

    def __str__(self) -> str:
        """Say what to do."""
        return "The books of this account are under review. Your credits are safe; try again later."
