"""The one MetaData to which every room's ``store.py`` adds its tables; migrations must match it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SEQ = BigInteger().with_variant(Integer(), "sqlite")
"""The type of a number that the database gives out, and of what points to one.

SQLite numbers rows only where the type is INTEGER, which holds 64 bits there.
"""
