"""Reads `multipart/form-data` (RFC 7578) as it comes, so that a large file is never whole in memory. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

from cluster.errors import InvalidRequest

MAX_HEAD_BYTES = 8 * 1024
MAX_PARTS = 16
INCOMPLETE = "The form is incomplete: its closing boundary did not come."


@dataclass(frozen=True, slots=True)
class Part:
    """A part begins; the bytes that come next are its content. `filename` None: a plain field."""

    name: str
    filename: str | None


class Multipart:
    """Takes a body in pieces of any size."""

    def __init__(self, content_type: str | None) -> None:
        """Read the boundary.

        Raises:
            InvalidRequest: It is no form.
        """
        boundary = _parameter(content_type or "", "boundary")
        if not (content_type or "").lower().startswith("multipart/form-data") or not boundary or len(boundary) > 70:
            raise InvalidRequest("Send the file as `multipart/form-data`, with the fields `purpose` and `file`.")
        self._mark = b"\r\n--" + boundary.encode("utf-8", "replace")
        self._left = b"\r\n"  # so that the first boundary is like every other
        self._where = "before"  # then head and content in turns, at last end
        self._parts = 0

    def feed(self, data: bytes) -> Iterator[Part | bytes]:
        """Yield what the next piece of the body says.

        Raises:
            InvalidRequest: It is not as a form must be.
        """
        self._left += data
        while self._where != "end":
            if self._where == "head":
                part = self._head()
                if part is None:
                    return
                yield part
            at = self._left.find(self._mark)
            ready = at if at >= 0 else max(0, len(self._left) - len(self._mark) + 1)  # what is left may begin a boundary
            content, self._left = self._left[:ready], self._left[ready:]
            if content and self._where == "content":
                yield content
            if at < 0 or not self._pass_mark():
                return

    def close(self) -> None:
        """Say that the body is over.

        Raises:
            InvalidRequest: Its end is missing.
        """
        if self._where != "end":
            raise InvalidRequest(INCOMPLETE)

    def _pass_mark(self) -> bool:
        """Go past the boundary that is next; False: what follows it has not come yet."""
        after = self._left[len(self._mark) : len(self._mark) + 2]
        if len(after) < 2:
            return False
        if after == b"--":
            self._where = "end"
        elif after == b"\r\n":
            self._left = self._left[len(self._mark) :]  # with the line end before the first header
            self._where = "head"
            self._parts += 1
            if self._parts > MAX_PARTS:
                raise InvalidRequest(f"The form has more than {MAX_PARTS} fields.")
        else:
            raise InvalidRequest("The form's boundary is followed by something else than a line end.")
        return True

    def _head(self) -> Part | None:
        """Read a part's headers; None: they have not come yet."""
        end = self._left.find(b"\r\n\r\n")
        if end < 0 or end > MAX_HEAD_BYTES:
            if len(self._left) > MAX_HEAD_BYTES:
                raise InvalidRequest(f"A field's headers are longer than {MAX_HEAD_BYTES} bytes.")
            return None
        head, self._left = self._left[:end], self._left[end + 4 :]
        said = [line.partition(":") for line in head.decode("utf-8", "replace").split("\r\n")]
        disposition = next((value.strip() for name, _, value in said if name.strip().lower() == "content-disposition"), "")
        name = _parameter(disposition, "name")
        if not disposition.lower().startswith("form-data") or name is None:
            raise InvalidRequest("A field of the form has no name.")
        self._where = "content"
        return Part(name, _parameter(disposition, "filename"))


def _parameter(header: str, name: str) -> str | None:
    """Read a parameter of a header."""
    message = Message()
    message["Content-Disposition"] = header.replace("\r", " ").replace("\n", " ")
    value = message.get_param(name, header="content-disposition")
    if isinstance(value, tuple):
        value = value[2]
    return value if isinstance(value, str) else None
