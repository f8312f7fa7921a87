"""Turn SQLAlchemy Core constructs into text and positional values for the driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from homeroom.db.tx import Statement

_SQLITE = SQLiteDialect(paramstyle="qmark")


def render(statement: Statement, values: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Return the SQL text and its values in order; text passes through as it is.

    A Core construct carries its own values, so ``values`` must be empty for one.
    """
    if isinstance(statement, str):
        return statement, values
    compiled = statement.compile(dialect=_SQLITE, compile_kwargs={"render_postcompile": True})
    order = getattr(compiled, "positiontup", None) or []
    return str(compiled), [compiled.params[key] for key in order]
