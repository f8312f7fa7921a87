"""Lists are paged by cursor: ``?limit=&cursor=`` gives ``{"items": [...], "nextCursor": null}``."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Depends, Query

from homeroom.errors import Invalid
from homeroom.web.model import View

Item = TypeVar("Item")
MAX_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class Paging:
    """How many items are wanted and after which key."""

    limit: int
    after: tuple[Any, ...] | None

    def key(self, *types: type) -> tuple[Any, ...] | None:
        """Return the key to start after, checked against its types; None for the first page."""
        if self.after is None:
            return None
        if len(self.after) != len(types) or not all(map(_fits, self.after, types)):
            raise Invalid("The cursor is not one of this list's; start again without it.")
        return self.after


def _fits(part: Any, kind: type) -> bool:
    """Say whether a part may be a key's: no true for 1, and no integer that no column holds."""
    if isinstance(part, int):
        return kind is int and type(part) is int and -(2**63) <= part < 2**63
    return isinstance(part, kind)


def _paging(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
    cursor: Annotated[str | None, Query(max_length=2_000)] = None,
) -> Paging:
    if cursor is None:
        return Paging(limit, None)
    try:
        parts = msgspec.json.decode(base64.urlsafe_b64decode(cursor.encode()), type=list[Any])
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise Invalid("The cursor cannot be read; start again without it.") from error
    return Paging(limit, tuple(parts))


PagingQuery = Annotated[Paging, Depends(_paging)]


class Page(View, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: str | None = None


def page(
    rows: Sequence[Any], paging: Paging, key: Callable[[Any], Sequence[Any]]
) -> tuple[list[Any], str | None]:
    """Cut ``limit + 1`` fetched rows to a page; return them and the next page's cursor."""
    if len(rows) <= paging.limit:
        return list(rows), None
    kept = list(rows[: paging.limit])
    cursor = base64.urlsafe_b64encode(msgspec.json.encode(list(key(kept[-1])))).decode()
    return kept, cursor
