"""Documents of programmes and offerings, for ``homeroom programmes import``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from homeroom.activity.api import Offering, Programme
from homeroom.activity.routes import ProgrammeEntry
from homeroom.validation_message import validation_message


@dataclass(frozen=True, slots=True)
class ProgrammeWithOfferings:
    """A parsed programme and its offerings."""

    programme: Programme
    offerings: list[Offering]


_document = TypeAdapter(list[ProgrammeEntry])


def parse_programmes(document: Any) -> tuple[list[ProgrammeWithOfferings], list[str]]:
    """Parse one programme or a list; return them, and all faults with their places."""
    try:
        entries = _document.validate_python(document if isinstance(document, list) else [document])
    except ValidationError as error:
        return [], [_fault(each) for each in error.errors(include_url=False)]
    return [_programme(entry) for entry in entries], []


def _programme(entry: ProgrammeEntry) -> ProgrammeWithOfferings:
    fields = entry.model_dump(exclude={"offerings"})
    fields["managers"] = tuple(dict.fromkeys(fields["managers"]))
    offerings = [Offering(programme_id=entry.id, **each.model_dump()) for each in entry.offerings]
    return ProgrammeWithOfferings(Programme(**fields), offerings)


def _fault(error: Mapping[str, Any]) -> str:
    """Return a fault with its place: ``entry 2, offerings.1.endsOn: ...``."""
    index, *path = error["loc"]
    at = ".".join(str(step) for step in path)
    return f"entry {int(index) + 1}{f', {at}' if at else ''}: {validation_message(error)}"
