"""What the routes of agents and nodes take and answer."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ledger.api.shapes import Answer, Credits, Moment

Label = Annotated[str, Field(max_length=100, pattern=r"^[^\x00]*$")]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
NodeState = Literal["active", "paused", "quarantined", "revoked", "deregistered", "banned"]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewAgentToken(_Asked):
    """A code is wanted: for a new node, or for one of the caller's that gets a new key."""

    label: Label = ""
    node_id: Word | None = Field(None, description="A node of yours that is to get a new key and keep its history.")


class MadeAgentToken(Answer):
    """A one-time enrollment code; `token` is shown this once."""

    token: str
    id: str
    label: str
    created_at: Moment
    expires_at: Moment
    message: str


class AgentTokenRow(Answer):
    """A code, and the agent that used it."""

    id: str
    label: str
    created_at: Moment
    expires_at: Moment
    last_used: Moment | None
    token_prefix: str
    node_id: str | None
    revoked_at: Moment | None


class AgentTokenPage(Answer):
    """One page, newest first."""

    results: list[AgentTokenRow]
    next: str | None


class RevokedAgentToken(Answer):
    """It is revoked; its agent is cut within seconds."""

    status: Literal["revoked"] = "revoked"
    id: str


class Enroll(_Asked):
    """An agent shows its code and proves that it owns its key."""

    code: Word
    public_key: Word = Field(description="base64url, without padding, of the 32 bytes of an Ed25519 public key.")
    proof: Word = Field(description="base64url signature over `gfe.agent.enroll.v1`, code and public_key, each on its line.")
    agent_version: Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[^\x00]*$")]
    platform: Name
    label: Name | None = None


class Enrolled(Answer):
    """The agent is a node now."""

    node_id: str
    ws_url: str
    min_agent_version: str


class NonceWanted(_Asked):
    """Which node asks."""

    node_id: Word


class Nonce(Answer):
    """To be signed once, soon."""

    nonce: str
    expires_in_s: int


class SignedNonce(_Asked):
    """A nonce, signed by the node's key."""

    node_id: Word
    nonce: Word
    signature: Word = Field(
        description="base64url signature over `gfe.agent.token.v1`, node_id, nonce, origin of this ledger, each on its line."
    )


class AgentAccess(Answer):
    """A token to connect with."""

    access_token: str
    expires_in_s: int


class AgentStatus(Answer):
    """How a node stands, for its agent."""

    node_id: str
    name: str
    state: NodeState
    state_reason: str | None = Field(description="Why it is in quarantine or banned.")
    tier: str
    strikes: int = Field(description="Flags among its last 100 judged audits.")
    earned_today: Credits
    earned_total: Credits
    jobs_today: int
    jobs_total: int
    held: Credits = Field(description="Earned, and not to be withdrawn yet.")
    held_until: Moment | None = Field(description="When all of it is released; null: nothing waits, or nothing leaves now.")
    reasons: list[str] = Field(description="What else keeps jobs away, in sentences.")


class ModelAdmission(Answer):
    """Whether consumers' jobs for a model go to a node: `testing` while its canaries run, then `admitted` or `refused`."""

    model: str
    digest: str = Field(description="Of the weights: others are tested anew.")
    state: Literal["testing", "admitted", "refused"]
    said: str = Field(description="The same in a sentence.")
    wanted: int = Field(description="Canaries that must pass.")
    asked: int
    passed: int = Field(description="Judged by the auditor, or answered where it cannot judge.")
    failed: int
    flagged: int
    first_token_s: float | None = Field(description="Median time to the first token, in seconds.")
    tokens_per_s: float | None
    again_at: Moment | None = Field(description="When a refused one is tested again; null: an appeal is open to you.")


class NodeAnswer(Answer):
    """A node of the caller's."""

    id: str
    name: str
    kind: str
    state: NodeState
    state_reason: str | None = Field(description="Why it is in quarantine or banned.")
    tier: str
    agent_version: str | None
    platform: str | None
    created_at: Moment
    last_seen_at: Moment | None
    admissions: list[ModelAdmission] = Field(description="Of an edge node's models, the last changed first; none where nothing is tested.")


class NodePage(Answer):
    """One page, newest first."""

    results: list[NodeAnswer]
    next: str | None


class NodeChange(_Asked):
    """What is left out stays."""

    name: Name | None = None
    state: Literal["active", "paused"] | None = Field(None, description="`paused`: no new jobs; `active`: again.")
