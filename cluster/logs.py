"""Logging of this package's processes: structlog, JSON off a terminal, and nothing secret or personal in it."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

Entry = MutableMapping[str, Any]
HIDDEN = "[hidden]"
SECRET_NAMES = re.compile(r"(?i)authorization|credential|password|secret|token$|api_?key|pepper|private_key|cookie")
CONTENT_NAMES = frozenset({"prompt", "messages", "content", "thinking", "text", "request", "result", "body"})
SECRET_TEXTS = re.compile(
    r"gfe_(?:live|test|enroll)_\w+"  # API keys, enrollment codes
    r"|eyJ[\w-]+\.[\w-]+\.[\w-]+"  # JSON web tokens
    r"|(?<=://)[^\s:/@]+:[^\s@]+(?=@)"  # user and password in an URL
)


def redacted(_logger: Any, _method: str, entry: Entry) -> Entry:
    """Hide credentials and what people wrote, by the field's name and by the form of the text."""
    for name, value in entry.items():
        if name != "event" and (SECRET_NAMES.search(name) or name in CONTENT_NAMES):
            entry[name] = HIDDEN
        elif isinstance(value, str):
            entry[name] = SECRET_TEXTS.sub(HIDDEN, value)
    return entry


def configure(process: str, level: int = logging.INFO, into: TextIO | None = None) -> None:
    """Set up logging of this process, to standard error or `into`; its name is in every entry."""
    stream = into or sys.stderr

    def named(_logger: Any, _method: str, entry: Entry) -> Entry:
        return {"process": process, **entry}  # not a context variable: an actor's calls have contexts of their own

    is_terminal = stream.isatty()
    # Plain tracebacks: the richer ones show local variables, credentials and prompts among them.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderers: list[Any] = [console] if is_terminal else [structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            named,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if is_terminal else [structlog.processors.format_exc_info]),
            redacted,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
