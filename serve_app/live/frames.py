"""What a client may say on its socket: four frames, each of one shape and bounded. Pure."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from serve_app.live.messages import Kind

MAX_BYTES = 4096
MAX_SEQ = 2**63 - 1


class FrameRefused(Exception):
    """A frame is not one of ours."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


class _Frame(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Auth(_Frame):
    """Who calls, at first and again before the token ends. `since`: the last number that the client heard, at the first time."""

    type: Literal["auth"]
    token: str = Field(min_length=1, max_length=2048, repr=False)
    since: int | None = Field(None, ge=0, le=MAX_SEQ)


class Subscribe(_Frame):
    """Hear of these."""

    type: Literal["subscribe"]
    kinds: list[Annotated[Kind, Field(strict=False)]] = Field(min_length=1, max_length=len(Kind))


class Unsubscribe(_Frame):
    """Hear of these no more."""

    type: Literal["unsubscribe"]
    kinds: list[Annotated[Kind, Field(strict=False)]] = Field(min_length=1, max_length=len(Kind))


class Ping(_Frame):
    """See whether anybody is there."""

    type: Literal["ping"]


Frame = Auth | Subscribe | Unsubscribe | Ping
_FRAMES: TypeAdapter[Frame] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])


def frame_from(text: str | None) -> Frame:
    """Read a frame; None stands for one that is not text.

    Raises:
        FrameRefused: It is none of ours. The detail never repeats what was sent.
    """
    if text is None:
        raise FrameRefused("not_text", "Send JSON text frames.")
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise FrameRefused("too_large", f"A frame may have at most {MAX_BYTES} bytes.")
    try:
        return _FRAMES.validate_json(text)
    except ValidationError as wrong:
        raise FrameRefused("malformed", _first(wrong)) from None


def _first(wrong: ValidationError) -> str:
    """Say what the first mistake is, and where."""
    error = wrong.errors(include_input=False, include_url=False, include_context=False)[0]
    if error["type"] == "union_tag_invalid":
        return "`type` must be one of auth, subscribe, unsubscribe, ping."
    where = ".".join(str(part) for part in error["loc"][1:])
    return f"{where}: {error['msg']}" if where else error["msg"]
