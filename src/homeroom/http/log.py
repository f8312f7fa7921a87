"""What the log looks like: JSON or a console, and never a secret or an e-mail address in it."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from homeroom.web.request_id import add_request_id

REDACTED = "[redacted]"
_SECRET_NAME = re.compile(
    r"(^|[_-])(authorization|cookie|key|jwt|passwd|password|secret|signature|token)s?$", re.I
)
_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_TOKEN = re.compile(
    r"\b(?:hr|once|whsec)_[A-Za-z0-9_+/=-]{8,}"
    r"|\beyJ[\w-]{4,}\.[\w-]{4,}\.[\w-]*"
    r"|(?<=Bearer )\S+|(?<=Basic )\S+",
    re.I,
)
_URL_PASSWORD = re.compile(r"(?<=://)[^/@\s:]*:[^/@\s]+(?=@)")


def redact_text(text: str) -> str:
    """Return a text without the tokens, passwords in URLs and e-mail addresses in it."""
    if "://" in text:
        text = _URL_PASSWORD.sub(REDACTED, text)
    text = _TOKEN.sub(REDACTED, text)
    return _EMAIL.sub("[email]", text) if "@" in text else text


def _redacted(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping) and depth < 8:
        return {
            str(name): REDACTED if _SECRET_NAME.search(str(name)) else _redacted(inner, depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset) and depth < 8:
        return [_redacted(inner, depth + 1) for inner in value]
    return redact_text(str(value))


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Take secrets out of a log line, by the names and by the looks of its values."""
    return {
        name: REDACTED
        if _SECRET_NAME.search(name) and value is not None
        else value
        if name in {"_record", "_from_structlog"}
        else _redacted(value)
        for name, value in event.items()
    }


def _to_json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["json", "console"] | None = None,
    stream: TextIO | None = None,
) -> None:
    """Set up structlog, and the libraries' logging with it, to write lines to ``stream``.

    ``stream`` is standard error by default: standard output belongs to the commands. Without
    ``form``, a terminal gets the console form and everything else JSON.
    """
    target = stream or sys.stderr
    chosen = form or ("console" if target.isatty() else "json")
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if chosen == "json"
        else structlog.dev.ConsoleRenderer(colors=target.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries tell much that we tell ourselves (httpx: every URL, with ids of people in it).
    root.setLevel(max(number, logging.WARNING))
