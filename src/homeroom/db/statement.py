"""Turn SQLAlchemy Core constructs into text and positional values for the driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from homeroom.db.tx import Statement

_DIALECTS = {
    "sqlite": SQLiteDialect(paramstyle="qmark"),
    "postgresql": PGDialect_asyncpg(paramstyle="numeric_dollar"),  # type: ignore[no-untyped-call]
}


def render(
    statement: Statement,
    values: Sequence[Any],
    dialect: Literal["sqlite", "postgresql"] = "sqlite",
) -> tuple[str, Sequence[Any]]:
    """Return the SQL text and its values in order; text passes through as it is.

    A Core construct carries its own values, so ``values`` must be empty for one.
    """
    if isinstance(statement, str):
        return statement, values
    compiled = statement.compile(
        dialect=_DIALECTS[dialect], compile_kwargs={"render_postcompile": True}
    )
    order = getattr(compiled, "positiontup", None) or []
    return str(compiled), [compiled.params[key] for key in order]
