"""Logging setup: JSON or console lines, without secrets and e-mail addresses."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from homeroom.redaction import redact_json
from homeroom.web.request_id import add_request_id

lost_lines = 0
"""Log lines of this process that could not be written, as when the log's disk is full."""


class LineLogger:
    """Writes lines to a stream; a line that it does not take is counted and dropped.

    Where the log and the data are on one disk, a full disk would otherwise raise OSError in
    whatever wanted to report it.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to ``stream``."""
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write a line and flush the stream."""
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            _count_lost_line()

    debug = info = warning = warn = error = err = critical = fatal = failure = exception = log = msg


class _StandardHandler(logging.StreamHandler[TextIO]):
    """Writes the records of libraries; see ``LineLogger``."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        _count_lost_line()


def _count_lost_line() -> None:
    global lost_lines
    lost_lines += 1


def redact_event(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Redact a log event by the names and the formats of its values."""
    own = {name: event.pop(name) for name in ("_record", "_from_structlog") if name in event}
    return {**redact_json(event), **own}


def configure_logging(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["json", "console"] | None = None,
    stream: TextIO | None = None,
) -> None:
    """Set up structlog and standard logging to write lines to ``stream``.

    ``stream`` is standard error by default, because commands print to standard output. Without
    ``form``, a terminal gets console lines and everything else JSON.
    """
    target = stream or sys.stderr
    line_format = form or ("console" if target.isatty() else "json")
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact_event,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if line_format == "json"
        else structlog.dev.ConsoleRenderer(colors=target.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: LineLogger(target),
        cache_logger_on_first_use=False,
    )
    handler = _StandardHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Below WARNING, libraries repeat our own lines, and httpx logs every URL with its user ids.
    root.setLevel(max(number, logging.WARNING))


def _to_json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
