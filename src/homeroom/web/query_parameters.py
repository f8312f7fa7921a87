"""Refusal of query parameters that a route does not know, repeated or empty.

FastAPI ignores unknown and repeated ones, so a misspelt filter was answered with everything.
``http.app`` makes ``refuse_unknown_parameters`` a dependency of all routes; it checks those below
``/api/``. Links that others decorate (``/u/...``, ``/hooks/...``, ``/credentials/...``) ignore what
they do not know.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query

from homeroom.errors import BadRequest, Invalid

API_PREFIX = "/api/"
_MAX_NAME_CHARACTERS = 100
_MAX_NAMED = 10
"""Limit of parameters that one problem document names."""


async def refuse_unknown_parameters(request: Request) -> None:
    """Raise ``Invalid`` for query parameters that the route does not accept.

    Raises ``BadRequest`` for a path that is not UTF-8.
    """
    query: bytes = request.scope["query_string"]
    if not request.scope["path"].startswith(API_PREFIX):
        return
    if "\ufffd" in request.scope["path"]:  # what the server puts in place of other bytes
        raise BadRequest("The path is not UTF-8; percent-encode the bytes of UTF-8.")
    if query:
        check_query(query, declared_parameters(request.scope["route"]))


def declared_parameters(route: Any) -> list[str]:
    """Return the query parameters of an ``APIRoute`` and its dependencies."""
    fields = get_flat_params(route.dependant)
    return [field.alias for field in fields if isinstance(field.field_info, Query)]


def check_query(query: bytes, known: Sequence[str]) -> None:
    """Raise ``Invalid`` for parameters that are unknown, repeated or empty.

    Raises ``BadRequest`` for a query that is not UTF-8: its bytes would become ``U+FFFD``, and a
    filter would match nothing, or another record.

    No route takes a list of values: the last one would win, and the others be ignored. An empty
    value would be a filter that nothing matches. Values are not repeated in the error.
    """
    try:
        parameters = parse_qsl(query.decode("utf-8"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise BadRequest("The query is not UTF-8; percent-encode the bytes of UTF-8.") from error
    counts = Counter(name for name, _ in parameters)
    unknown = [name for name in counts if name not in known]
    if unknown:
        raise _unknown_parameters(unknown, known)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise Invalid(
            f"The query may hold {_names(repeated)} only once.",
            details={"errors": [_error(name, "it is repeated", "repeated") for name in repeated]},
        )
    empty = [name for name, value in parameters if not value]
    if empty:
        raise Invalid(
            f"The query holds no value for {_names(empty)}; leave out what is not to be filtered.",
            details={"errors": [_error(name, "it is empty", "empty") for name in empty]},
        )


def _unknown_parameters(unknown: Sequence[str], known: Sequence[str]) -> Invalid:
    listed = f"it knows {', '.join(known)}" if known else "it knows none"
    hint = _hint(unknown, known)
    return Invalid(
        f"This route does not know {_names(unknown)}; {listed}.",
        hint=hint,
        details={
            "errors": [
                _error(name, "it is unknown", "unknown_parameter") for name in unknown[:_MAX_NAMED]
            ],
            "knownParameters": list(known),
        },
    )


def _hint(unknown: Collection[str], known: Sequence[str]) -> str | None:
    """Return the known names that are nearest to the unknown ones, or None."""
    by_folded_name = {_fold(name): name for name in known}
    found = [
        by_folded_name[near]
        for name in unknown
        for near in difflib.get_close_matches(
            _fold(name[:_MAX_NAME_CHARACTERS]), by_folded_name, n=1
        )
    ]
    return f"Did you mean {_names(list(dict.fromkeys(found)))}?" if found else None


def _fold(name: str) -> str:
    """Return a name without what tells ``userId``, ``user_id`` and ``userid`` apart."""
    return name.replace("_", "").replace("-", "").lower()


def _names(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:_MAX_NAME_CHARACTERS]) for name in names[:_MAX_NAMED])


def _error(name: str, detail: str, code: str) -> dict[str, str]:
    name = name[:_MAX_NAME_CHARACTERS]
    return {"in": "query", "parameter": name, "detail": detail, "code": code}
