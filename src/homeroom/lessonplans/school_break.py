"""Days without lessons in the schedule of a plan (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel

from homeroom.plain_text import LINE_RULE, is_line


def parse_date(value: object) -> date:
    """Return a day from text such as ``2027-01-11``; else raise ValueError."""
    try:
        day = date.fromisoformat(value)  # type: ignore[arg-type]  # TypeError: not text
    except (TypeError, ValueError):
        day = None
    if day is None or not 1970 <= day.year <= 2200:
        raise ValueError("must be a date such as 2027-01-11")
    return day


def _check_title(value: str) -> str:
    if not is_line(value):
        raise ValueError(f"must be {LINE_RULE}")
    return value


class SchoolBreak(BaseModel):
    """Days without lessons: a holiday, or a break of some weeks."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid"
    )

    title: Annotated[
        Annotated[str, StringConstraints(max_length=200), AfterValidator(_check_title)] | None,
        Field(description="Its name, such as Easter."),
    ] = None
    first_day: Annotated[
        date, BeforeValidator(parse_date), Field(alias="from", description="The first free day.")
    ]
    last_day: Annotated[
        date,
        BeforeValidator(parse_date),
        Field(alias="until", description="The last free day. If absent, the first."),
    ]

    @model_validator(mode="before")
    @classmethod
    def _one_day_by_default(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("until") is None and "from" in value:
            return {**value, "until": value["from"]}
        return value

    @model_validator(mode="after")
    def _check_order(self) -> SchoolBreak:
        if self.last_day < self.first_day:
            raise ValueError("must not end before it begins")
        return self
