"""What the routes of earnings, past balances and prices take and answer."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ledger.api.shapes import Answer, Credits, Moment

MOST_TOKENS = 2**31 - 1


class EarningsOfDay(Answer):
    """What one day brought."""

    date: Annotated[str, Field(examples=["2026-11-24"])]
    earned: Credits
    jobs: int


class EarningsOfModel(Answer):
    """What one model brought in the period."""

    model: str
    earned: Credits
    jobs: int


class EarningsOfNode(Answer):
    """What one node brought in the period."""

    node_id: str
    name: str
    earned: Credits
    jobs: int


class EscrowAnswer(Answer):
    """What a node earned that cannot be withdrawn yet."""

    node_id: str
    name: str
    amount: Credits
    first_at: Moment | None = Field(
        description="When the first of it is released; null: nothing leaves while the node is in quarantine or banned."
    )
    last_at: Moment | None = Field(description="When the last of it is.")


class EarningsAnswer(Answer):
    """A provider's earnings."""

    total: Credits
    period: Credits
    jobs: int
    pending: Credits = Field(description="Of nodes that cannot be withdrawn yet.")
    released: Credits = Field(description="What can be withdrawn.")
    by_day: list[EarningsOfDay]
    by_model: list[EarningsOfModel]
    by_node: list[EarningsOfNode]
    escrows: list[EscrowAnswer]


class PastBalanceAnswer(Answer):
    """What somebody had at a moment; total = promotional + paid."""

    at: Moment
    total: Credits
    promotional: Credits
    paid: Credits
    pending: Credits
    earned: Credits


class PriceAnswer(Answer):
    """One immutable version of a price."""

    version: int
    job: Credits
    prompt_per_million: Credits
    completion_per_million: Credits


class PriceList(Answer):
    """The default price, and models with one of their own."""

    default: PriceAnswer
    models: dict[str, PriceAnswer]


class QuoteAsked(BaseModel):
    """The size of a job."""

    model_config = ConfigDict(extra="forbid")
    model: Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00]*$")]
    prompt_tokens: Annotated[int, Field(ge=0, le=MOST_TOKENS)] = 0
    max_tokens: Annotated[int, Field(ge=0, le=MOST_TOKENS)] = 1024


class Quote(Answer):
    """The most it would cost."""

    model: str
    amount: Credits
    price: PriceAnswer
