"""Make the types of ``homeroom_client.models`` of JSON."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from homeroom_client.errors import UnexpectedAnswer

T = TypeVar("T")
Decoder = Callable[[Any], Any]


def decode(kind: type[T], value: object) -> T:
    """Return a value of this dataclass; raises ``UnexpectedAnswer``, which names the field."""
    try:
        decoded: T = _decoder(typing.cast(Hashable, kind))(value)
    except (KeyError, TypeError, ValueError) as error:
        text = f"The answer is no {kind.__name__} of Homeroom's API ({error})."
        raise UnexpectedAnswer(text) from error
    return decoded


def camel_case(name: str) -> str:
    """Return the name of a field in JSON."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@cache
def _decoder(kind: Any) -> Decoder:
    """Return the function that decodes values of an annotation of the models."""
    if is_dataclass(kind) and isinstance(kind, type):
        return _object_decoder(kind)
    if kind is datetime:
        return datetime.fromisoformat
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        each = _decoder(arguments[0])
        return lambda value: tuple(each(item) for item in _checked(list, value))
    if origin in (types.UnionType, typing.Union):  # only ever with None
        [inner] = (_decoder(each) for each in arguments if each is not types.NoneType)
        return lambda value: None if value is None else inner(value)
    if origin is typing.Literal:  # a newer server may have more words
        return lambda value: _checked(str, value)
    if kind is float:
        return lambda value: float(_checked((int, float), value))
    expected = dict if origin is not None else kind  # what is left is a mapping
    return lambda value: _checked(expected, value)


def _object_decoder(kind: type[Any]) -> Decoder:
    hints = typing.get_type_hints(kind)
    parts = [
        (each.name, camel_case(each.name), _decoder(hints[each.name])) for each in fields(kind)
    ]
    # A server of an earlier release lacks fields that were added since, which may all be null.
    absent = {
        camel_case(name): None
        for name, hint in hints.items()
        if types.NoneType in typing.get_args(hint)
    }

    def decode_object(value: object) -> Any:
        data: Mapping[str, Any] = absent | _checked(dict, value)
        return kind(**{name: part(data[key]) for name, key, part in parts})

    return decode_object


def _checked(expected: type | tuple[type, ...], value: Any) -> Any:
    if not isinstance(value, expected):
        raise TypeError(f"{type(value).__name__} instead of {expected}")
    return value
