"""Turn SQLAlchemy Core constructs into text and positional values for the driver."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from sqlalchemy import Dialect
from sqlalchemy.dialects import registry

from homeroom.db.tx import Statement

_NAMES = {
    "sqlite": ("sqlite", "qmark"),
    "postgresql": ("postgresql.asyncpg", "numeric_dollar"),
}


@cache
def _dialect(name: str) -> Dialect:
    """Return a dialect, loaded when it is first needed: that of PostgreSQL takes some memory."""
    known_as, paramstyle = _NAMES[name]
    made: Dialect = registry.load(known_as)(paramstyle=paramstyle)
    return made


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
        dialect=_dialect(dialect), compile_kwargs={"render_postcompile": True}
    )
    order = getattr(compiled, "positiontup", None) or []
    return str(compiled), [compiled.params[key] for key in order]
