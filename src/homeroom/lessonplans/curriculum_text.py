"""Parser of JSON and YAML 1.2 with line and column of every value (pure).

YAML is restricted to JSON's model: no aliases, which can expand without bound, and no tags. Its
plain scalars follow the core schema of YAML 1.2, so ``1:30``, ``yes`` and dates are text; PyYAML's
own constructors follow YAML 1.1, where ``1:30`` is 90. Only its parser is used here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from homeroom.lessonplans.curriculum_source import CurriculumSource, FileFault, ValuePath

MAX_DEPTH = 20
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
_DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser: 15 times faster, where the wheel of PyYAML has it."""


def read_json(content: str) -> CurriculumSource:
    """Return the body in JSON text. A repeated key is a fault."""
    try:
        body = json.loads(content, parse_constant=_reject_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        return CurriculumSource(faults=[FileFault(place, f"is not JSON: {error.msg}")])
    except (ValueError, RecursionError) as error:
        return CurriculumSource(faults=[FileFault("line 1", f"is not JSON: {error}")])
    # JSON is YAML, but for tabs between values: the same parser finds the places.
    source = read_yaml(content.replace("\t", " "))
    if source.body is None:  # no place is known; the values still are
        return CurriculumSource(body)
    if not source.faults:  # else the first value of a repeated key is the one with a place
        source.body = body
    return source


def read_yaml(content: str) -> CurriculumSource:
    """Return the body in YAML text. A repeated key is a fault."""
    source = CurriculumSource()
    try:
        events = yaml.parse(content, Loader=_Loader)
        next(events)  # the start of the stream
        if isinstance(next(events), yaml.DocumentStartEvent):
            source.body = _value(next(events), events, (), source)
            next(events)  # the end of the document
            extra = next(events)
            if isinstance(extra, yaml.DocumentStartEvent):
                raise _NotRead("is a second document; a file holds one", extra)
    except yaml.MarkedYAMLError as error:
        detail = f"is not YAML: {error.problem or error.context}"
        return CurriculumSource(faults=[FileFault(_place(error.problem_mark), detail)])
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())[:200]
        return CurriculumSource(faults=[FileFault("line 1", f"is not YAML: {reason}")])
    except _NotRead as error:
        return CurriculumSource(faults=[FileFault(error.place, error.detail)])
    if source.body is None and not source.faults:
        source.faults.append(FileFault("line 1", "is empty"))
    return source


class _NotRead(Exception):
    """A part of YAML that JSON does not have."""

    def __init__(self, detail: str, event: yaml.Event) -> None:
        super().__init__(detail)
        self.detail = detail
        self.place = _place(event.start_mark)


def _reject_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number in JSON")


def _value(
    event: yaml.Event, events: Iterator[yaml.Event], path: ValuePath, source: CurriculumSource
) -> Any:
    """Return the value that begins with an event, and note its place and those in it."""
    source.places.setdefault(path, _place(event.start_mark))
    if isinstance(event, yaml.AliasEvent):
        raise _NotRead("is not YAML that is read: aliases are not; repeat the value", event)
    if getattr(event, "tag", None) is not None:
        raise _NotRead("is not YAML that is read: tags are not; write text in quotes", event)
    if len(path) > MAX_DEPTH:
        raise _NotRead(f"is not YAML that is read: it is more than {MAX_DEPTH} deep", event)
    if isinstance(event, yaml.SequenceStartEvent):
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(_value(event, events, (*path, len(items)), source))
        return items
    if isinstance(event, yaml.MappingStartEvent):
        return _mapping(events, path, source)
    assert isinstance(event, yaml.ScalarEvent)  # there is no other kind
    return _plain_scalar(event.value) if event.implicit[0] else event.value


def _mapping(
    events: Iterator[yaml.Event], path: ValuePath, source: CurriculumSource
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
            raise _NotRead("is not YAML that is read: a key must be text", event)
        key = event.value
        is_new = key not in values
        if is_new:
            source.places[(*path, key)] = _place(event.start_mark)
        else:
            detail = f"the key {key[:100]!r} is there twice"
            source.faults.append(FileFault(_place(event.start_mark), detail))
        value = _value(next(events), events, (*path, key), source)
        if is_new:
            values[key] = value
    return values


def _plain_scalar(text: str) -> Any:
    """Return the value of a scalar without quotes by the core schema."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _WHOLE.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _DECIMAL.fullmatch(text):
        return float(text)
    if special := _SPECIAL.fullmatch(text):
        return float(f"{special[1] or ''}inf" if special[2] else "nan")
    return text


def _place(mark: Any) -> str:
    """Return the place of a mark of either parser, which are of two classes."""
    return "line 1" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"
