"""Field types of the settings: durations, URLs, lists, and their checks."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from typing import Annotated
from urllib.parse import urlsplit

import idna
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from homeroom.identity import Role

SENTINEL_PORT = 26_379
"""Port of a Redis Sentinel whose entry names none."""
MIN_EVENT_RETENTION = timedelta(days=90)
MAX_DURATION = timedelta(days=36_500)
"""A century. Longer ones end beyond the years that an instant can have."""
_MAX_CLAIM_PATH = 200
_ROLE_NAMES = tuple(Role)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)?")
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-fIPv:.]+\]")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, None: 1}


def parse_duration(text: object) -> timedelta:
    """Parse ``30``, ``30s``, ``500ms``, ``5m``, ``12h``, ``90d`` or ``2w``.

    A bare number is in seconds. Raises ValueError for anything else, and for more than
    ``MAX_DURATION``; returns a timedelta unchanged.
    """
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(str(text).strip().lower())
    if match is None:
        raise ValueError("write a duration as 30, 30s, 500ms, 5m, 12h, 90d or 2w")
    seconds = float(match[1]) * _UNIT_SECONDS[match[2]]
    if seconds > MAX_DURATION.total_seconds():
        raise ValueError(f"write {MAX_DURATION.days}d or less")
    return timedelta(seconds=seconds)


def _check_positive(duration: timedelta) -> timedelta:
    if duration <= timedelta():
        raise ValueError("write a duration of more than 0s")
    return duration


def _check_retention(age: timedelta) -> timedelta:
    # 0 is written by operators who mean "never", and would delete everything within the hour.
    if age <= timedelta():
        raise ValueError(
            f"write an age of more than 0s: 0 would delete everything; {MAX_DURATION.days}d"
            " deletes nothing for a century"
        )
    return age


def clock_offset(text: str, now: datetime) -> timedelta:
    """Return the shift of the clock: a duration, or the way to an instant."""
    unsigned = text.lstrip("+-")
    if _DURATION.fullmatch(unsigned):
        shift = parse_duration(unsigned)
        return -shift if text.startswith("-") else shift
    return datetime.fromisoformat(text).astimezone(UTC) - now


def _check_http_url(text: object) -> object:
    parts = urlsplit(str(text))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write a whole URL with its scheme, such as https://homeroom.example.org")
    return str(text).rstrip("/")


def _check_redis_url(text: object) -> object:
    value = text.get_secret_value() if isinstance(text, SecretStr) else str(text)
    try:
        parts = urlsplit(value)
        is_valid = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("write redis://:password@host:6379/0, or rediss://... for TLS")
    return text


def _parse_host_ports(text: object) -> object:
    """Return ``one:5000,two`` as ``("one:5000", "two:26379")``."""
    if not isinstance(text, str):
        return text
    addresses = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        parts = urlsplit(f"//{part}")
        if not parts.hostname or parts.path:
            raise ValueError("write hosts and ports as sentinel-1:26379,sentinel-2:26379")
        addresses.append(f"{parts.hostname}:{parts.port or SENTINEL_PORT}")
    return tuple(addresses)


def _check_test_clock(text: object) -> object:
    unsigned = str(text).lstrip("+-")
    if _DURATION.fullmatch(unsigned) is None and datetime.fromisoformat(str(text)).tzinfo is None:
        raise ValueError("write an instant as 2026-11-23T09:00:00Z, or a shift as 90d or -2h")
    return text


def _check_mailbox(text: object) -> object:
    address = parseaddr(str(text))[1]
    local, _, domain = address.rpartition("@")
    if not local or "." not in domain or any(letter in str(text) for letter in "\r\n"):
        raise ValueError("write a mailbox, such as Homeroom <homeroom@example.org>")
    return text


def _parse_mailboxes(text: object) -> object:
    if not isinstance(text, str):
        return text
    addresses = tuple(part.strip() for part in text.split(",") if part.strip())
    for address in addresses:
        _check_mailbox(address)
        if parseaddr(address)[1] != address:
            raise ValueError("write addresses alone, such as ada@example.org,ben@example.org")
    return addresses


def check_mail_host_name(text: str) -> str:
    """Return a host name in ASCII, or an IP address in brackets; or raise ValueError."""
    name = text.strip()
    if not name.isascii():
        name = idna.encode(name, uts46=True).decode("ascii")
    if _HOST_NAME.fullmatch(name) is None:
        raise ValueError("write the name of this machine, such as homeroom.example.org")
    return name


def _check_one_line(text: str) -> str:
    if not text.strip() or any(not letter.isprintable() for letter in text):
        raise ValueError("write one line of text")
    return text.strip()


def _check_link_template(text: str) -> str:
    names = set(_PLACEHOLDER.findall(text))
    if not names <= {"programme", "week", "user"} or set("{}") & set(_PLACEHOLDER.sub("", text)):
        raise ValueError("use only {programme}, {week} and {user}")
    return str(_check_http_url(text))


def _parse_names(value: object) -> object:
    """Return the names of a list that is separated by commas."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))


def _parse_class_names(text: object) -> object:
    """Return ``one:A,two.b:C`` as ``("one:A", "two.b:C")``."""
    if not isinstance(text, str):
        return text
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        module, _, class_name = name.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), class_name)):
            raise ValueError("write modules and classes as school_steps:AlumniStep")
    return names


def _parse_origins(text: object) -> object:
    if not isinstance(text, str):
        return text
    origins = tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
    for origin in origins:
        parts = urlsplit(origin)
        is_origin = (
            parts.scheme in {"http", "https"}
            and bool(parts.netloc)
            and origin == f"{parts.scheme}://{parts.netloc}"
        )
        if origin != "*" and not is_origin:
            raise ValueError(
                "write origins as https://learn.example.org, with the scheme, without a path"
            )
    return origins


def _check_event_retention(age: timedelta) -> timedelta:
    if age < MIN_EVENT_RETENTION:
        raise ValueError(
            f"set at least {MIN_EVENT_RETENTION.days}d, or leave it unset to delete no events:"
            " clients send again for up to 30 days, restored phones for longer, and an event whose"
            " id was deleted counts twice"
        )
    return age


def _parse_delays(text: object) -> object:
    if not isinstance(text, str):
        return text
    delays = tuple(parse_duration(part) for part in text.split(",") if part.strip())
    if not delays:
        raise ValueError("write one wait or more, as 5s,5m,30m,2h")
    return delays


def _check_colour(text: str) -> str:
    if _COLOUR.fullmatch(text) is None:
        raise ValueError("write a colour as # and six hexadecimal digits, such as #1f4e79")
    return text


def _check_currency(text: str) -> str:
    if _CURRENCY.fullmatch(text) is None:
        raise ValueError("write a currency as three capital letters, such as EUR")
    return text


def _check_claim_path(text: object) -> object:
    path = str(text)
    if not path.isprintable() or len(path) > _MAX_CLAIM_PATH or not all(path.split(".")):
        raise ValueError(
            "write a claim as roles, realm_access.roles or https://school.example/roles"
        )
    return path


def _parse_role_map(text: object) -> object:
    """Return ``student=learner,teacher=facilitator`` as pairs of word and role."""
    if not isinstance(text, str):
        return text
    pairs = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        word, _, role = (each.strip() for each in part.rpartition("="))
        if not word or role not in _ROLE_NAMES:
            raise ValueError(
                "write words and roles as student=learner,teacher=facilitator; the roles are "
                + ", ".join(_ROLE_NAMES)
            )
        pairs.append((word, Role(role)))
    return tuple(pairs)


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[Duration, AfterValidator(_check_positive)]
Retention = Annotated[Duration, AfterValidator(_check_retention)]
EventRetention = Annotated[Duration, AfterValidator(_check_event_retention)]
Delays = Annotated[tuple[timedelta, ...], NoDecode, BeforeValidator(_parse_delays)]
Rate = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
HttpUrl = Annotated[str, BeforeValidator(_check_http_url)]
RedisUrl = Annotated[SecretStr, BeforeValidator(_check_redis_url)]
HostPorts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_host_ports)]
ClassNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_class_names)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_names)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_origins)]
ClaimPath = Annotated[str, AfterValidator(_check_claim_path)]
RoleMap = Annotated[tuple[tuple[str, Role], ...], NoDecode, BeforeValidator(_parse_role_map)]
Mailbox = Annotated[str, BeforeValidator(_check_mailbox)]
Mailboxes = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_mailboxes)]
MailHostName = Annotated[str, AfterValidator(check_mail_host_name)]
OneLine = Annotated[str, AfterValidator(_check_one_line)]
LinkTemplate = Annotated[OneLine, AfterValidator(_check_link_template)]
HexColour = Annotated[str, AfterValidator(_check_colour)]
Currency = Annotated[str, AfterValidator(_check_currency)]
TestClock = Annotated[str, BeforeValidator(_check_test_clock)]
