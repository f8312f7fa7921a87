"""Turn SQLAlchemy Core constructs into text and positional values for the drivers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.engine import Dialect

from homeroom.db.tx import Statement


@lru_cache
def _dialect(name: Literal["sqlite", "postgresql"]) -> Dialect:
    if name == "sqlite":
        return SQLiteDialect(paramstyle="qmark")
    return PGDialect(paramstyle="numeric_dollar")


def render(
    statement: Statement, values: Sequence[Any], name: Literal["sqlite", "postgresql"]
) -> tuple[str, Sequence[Any]]:
    """Return the SQL text and its values in order; text passes through as it is.

    A Core construct carries its own values, so ``values`` must be empty for one.
    """
    if isinstance(statement, str):
        return statement, values
    compiled = statement.compile(
        dialect=_dialect(name), compile_kwargs={"render_postcompile": True}
    )
    params = compiled.params
    order = getattr(compiled, "positiontup", None) or []
    return str(compiled), [params[key] for key in order]
