"""Hide secrets and mask e-mail addresses in whatever leaves Homeroom (pure).

Logs, job data and errors, messages about partners, SMTP replies, jobs in Redis and problem
documents all go through here. ``tests/unit/test_redaction.py`` lists the shapes that are known;
``tests/service/test_no_secret_leaves.py`` sends each of them through every exit.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


REDACTED = "[hidden]"
MAX_LINE_LENGTH = 200
_MAX_DEPTH = 64
_MAX_NESTED_URLS = 20
_MAX_HARMLESS, _MAX_HARMLESS_LENGTH = 4_096, 64
_HARMLESS: set[str] = set()
"""Short texts without a secret, as methods and event names in each line of a log are."""
_BARE_TOKEN_LENGTH = 43
"""256 random bits as URL-safe base64: a session's token, which has no prefix to know it by."""

_PUBLIC_SCHEMES = _words(
    "amqp file ftp http https lmtp mysql postgres postgresql redis rediss sftp smtp smtps sqlite"
    " ssh tcp unix ws wss"
)
"""Every other URL is one of Apprise (``slack://TokenA/TokenB``), which is secret as a whole."""
_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9.+-]{0,40})://([^\s\"'<>]+)")
_PORT = r"\d{1,5}(?:[/?#),;\]]|$)"
_USER_INFO = re.compile(rf"\A(?:[^/?#]*@|[^/:@]*:(?!{_PORT}).*@)")
_SECRET_PATH = re.compile(
    r"(hooks\.slack\.com/services/|discord(?:app)?\.com/api/webhooks/|api\.telegram\.org/bot"
    r"|/u/(?=[\w-]{30}))[^\s\"'<>]+"
)
"""Webhooks that carry their secret in the path, and Homeroom's own unsubscribe links."""
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:hr|once)_[\w+/=-]{8,}"
    r"|wh(?:sec|sk)_[\w+/=-]+"
    r"|v1a?,[A-Za-z0-9+/]{40,}={0,2}"  # a signature of Standard Webhooks
    r"|(?:ey[AIJ]|ew[0ko])[\w-]{7,}\.[\w-]{4,}\.[\w-]*(?:\.[\w-]*){0,2}"  # JWT and JWE
    r"|[rs]k[-_][\w-]{16,}|AIza[\w-]{30,}|xox[a-z]-[\w-]{10,}|gh[a-z]_\w{20,}|glpat-[\w-]{16,}"
    r"|AKIA[0-9A-Z]{16})"
)
_TOKEN_MARKS = _words(
    "hr_ once_ whsec_ whsk_ v1, v1a, eyJ eyA eyI ewo ewk ew0 sk- sk_ rk- rk_ AIza xox ghp_"
    " gho_ ghs_ ghu_ ghr_ glpat- AKIA"
)
_SCHEME_VALUE = re.compile(
    r"\b(bearer\s+(?!realm=|token\b)|basic\s+|auth\s+(?:plain|login|xoauth2|oauthbearer|cram-md5)\s+)"
    r"([^\s\"'<>,;]+)",
    re.IGNORECASE,
)
_BARE_TOKEN = re.compile(rf"(?<![\w-])[\w-]{{{_BARE_TOKEN_LENGTH}}}(?![\w-])", re.ASCII)
_ID_BEFORE = re.compile(r"(?i)(?:id|subject|sub)[\"']?\s*[=:]\s*[\"']?\Z")

_NAME = re.compile(
    r"(?:(?<![\w.%-])|(?<=%[0-9A-Fa-f]{2}))(?:(--[\w-]++)(?:[ \t]+|=)"
    r"|([\w.-]++)\\*[\"']?[ \t]*"
    r"(?:=>|[:=]|%3[AaDd]|(?<=[\"']),[ \t]*[\"']value[\"'][ \t]*:|(?<=[\"']),(?=[ \t]*b?[\"']))"
    r"[ \t]*(?:b(?=[\"']))?)"
)
"""A name and what stands between it and its value, in code, JSON, headers, DSNs and queries."""
_QUOTED = re.compile(r"([\"'])(?:\\.|(?!\1).)*+(?:\1|\Z)", re.DOTALL)
_ESCAPED = re.compile(r"(\\+[\"'])(?:(?!(?<!\\)\1).)*+(?:\1|\Z)", re.DOTALL)
_BRACKETED = re.compile(r"\[[^\[\]]*(?:\]|\Z)|\{[^{}]*(?:\}|\Z)")
_UNQUOTED = re.compile(r"[^\s\"'&<>]+")
_HEADER_VALUE = re.compile(r"[^\r\n\"']+")
_PLACEHOLDER = re.compile(r"(?:\w+ )?<[^<>]*>|\?(?=[\s,)]|\Z)")
_PARAMETERS = re.compile(r"[^\r\n]+")

_NAME_MARKS = _words(
    "pass pwd secret token authori cookie signature sig= sig: jwt key bearer session auth otp"
)
_HEADERS = frozenset({"authorization", "cookie"})
_SECRET_WORDS = _words(
    "accesstoken apikey authorization authtoken cookie cookies jwt passphrase passwd password"
    " passwords privatekey pwd refreshtoken secret secretkey secrets signature signatures"
    " token tokens"
)
_SECRET_ENDINGS = frozenset({"auth", "bearer", "otp", "sig"})
_HARMLESS_ENDINGS = _words(
    "at count error exception expires expiry format kind length limit policy type usage warning"
)
_PLAIN_KEYS = _words(
    "attempt cache dedupe foreign group idempotency lock natural partition primary public sort"
    " unique week"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_LOCAL = r"[^\s@\"'<>()\[\]{},;:=/]"
_EMAIL = re.compile(rf"(?:(?<!{_LOCAL})({_LOCAL}++)|\"[^\"\r\n@]{{1,64}}\")@(?=[\w.-]*[^\W\d_]|\[)")
"""Reads a word once and not again from each of its letters: other programs may send long ones."""


def redact_text(text: str, known: Iterable[str] = ()) -> str:
    """Hide secrets, ``known`` ones too, and mask e-mail addresses in text."""
    if text in _HARMLESS and not known:
        return text
    shown = mask_emails(hide_secrets(text, known))
    if len(text) <= _MAX_HARMLESS_LENGTH and shown == text:
        if len(_HARMLESS) >= _MAX_HARMLESS:
            _HARMLESS.clear()
        _HARMLESS.add(text)
    return shown


def redact_line(text: str, known: Iterable[str] = (), max_length: int = MAX_LINE_LENGTH) -> str:
    """Return another system's words on one line of bounded length, redacted."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text[: 16 * max_length]).split())
    shown = redact_text(flat[: 8 * max_length], known)
    if len(flat) > 8 * max_length or len(text) > 16 * max_length:
        shown = shown[:-64]  # a secret that was cut through has lost its shape
    return shown if len(shown) <= max_length else shown[: max_length - 1] + "…"


def redact_json(value: Any) -> Any:
    """Return JSON or a log line redacted, by the names and the form of its values."""
    return _redact_value(value, 0, redact_text)


def hide_secrets_in_json(value: Any) -> Any:
    """Return JSON without secrets, in which e-mail addresses stay: for their owner."""
    return _redact_value(value, 0, hide_secrets)


def hide_secrets(text: str, known: Iterable[str] = ()) -> str:
    """Hide secrets in text by their form and by the names before them.

    Most texts hold none, so a search for a few characters precedes each expression.
    """
    for secret in sorted(known, key=len, reverse=True):
        if secret:
            text = text.replace(secret, REDACTED).replace(_percent_encode(secret), REDACTED)
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub(REDACTED, text)
    if "/" in text:
        if "://" in text:
            text = _URL.sub(_hide_in_url, text)
        text = _SECRET_PATH.sub(rf"\1{REDACTED}", text)
    lowered = text.lower()
    if _holds_one_of(_NAME_MARKS, lowered):
        text = _hide_named_values(text)
    if "bearer" in lowered or "basic" in lowered or "auth " in lowered:
        text = _SCHEME_VALUE.sub(_hide_scheme_value, text)
    if _holds_one_of(_TOKEN_MARKS, text):
        text = _TOKEN.sub(REDACTED, text)
    if len(text) >= _BARE_TOKEN_LENGTH:
        text = _BARE_TOKEN.sub(_hide_bare_token, text)
    return text


def _holds_one_of(marks: Iterable[str], text: str) -> bool:
    for mark in marks:  # noqa: SIM110 - half the time of any()
        if mark in text:
            return True
    return False


def mask_emails(text: str) -> str:
    """Mask e-mail addresses: the first letter and the domain stay."""
    if "%40" in text:
        text = text.replace("%40", "@")
    if "\\u0040" in text:
        text = text.replace("\\u0040", "@")
    return _EMAIL.sub(_mask_email, text) if "@" in text else text


@lru_cache(maxsize=4_096)
def is_secret_name(name: str) -> bool:
    """Return whether a name means a secret in any spelling, as ``X-Api-Key``."""
    words = [word.lower() for word in _WORD.findall(name[:256])]
    if not words or words[-1] in _HARMLESS_ENDINGS:
        return False
    if not _SECRET_WORDS.isdisjoint(words):
        return words[-2:] not in (["token", "id"], ["token", "ids"])
    if words[-1] in {"key", "keys"}:
        return len(words) > 1 and words[-2] not in _PLAIN_KEYS
    return words[-1] in _SECRET_ENDINGS or words == ["homeroom", "session"]


def _redact_value(value: Any, depth: int, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray):
        return redact(value.decode("utf-8", "replace"))
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return _redact_mapping(value, depth, redact)
    if depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        items = list(value)
        if len(items) == 2 and _names_secret(items[0]) and isinstance(items[1], str | bytes):
            return [_redact_value(items[0], depth + 1, redact), REDACTED]  # a header as a pair
        return [_redact_value(item, depth + 1, redact) for item in items]
    return redact(str(value))


def _redact_mapping(
    value: Mapping[Any, Any], depth: int, redact: Callable[[str], str]
) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    is_pair = "value" in value and _names_secret(value.get("name", value.get("key")))
    for name, item in value.items():
        key = redact(str(name))
        while key in shown:
            key += "'"  # two addresses may look the same once masked
        if item is not None and (is_pair if name == "value" else _hides(str(name), item)):
            shown[key] = REDACTED
        elif isinstance(item, str) and _is_id(str(name)):
            shown[key] = redact(f"id={item}")[3:]
        else:
            shown[key] = _redact_value(item, depth + 1, redact)
    return shown


def _hides(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if name == "key":
        return isinstance(value, str)
    # A model's tokens are counted.
    return is_secret_name(name) and not (
        isinstance(value, int | float) and name.lower().endswith("tokens")
    )


def _names_secret(name: Any) -> bool:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    return isinstance(name, str) and is_secret_name(name)


def _is_id(name: str) -> bool:
    return name.lower().endswith(("id", "subject")) or name == "sub"


def _percent_encode(text: str) -> str:
    return re.sub(
        r"[^A-Za-z0-9._~-]", lambda hit: "".join(f"%{byte:02X}" for byte in hit[0].encode()), text
    )


def _hide_in_url(hit: re.Match[str]) -> str:
    scheme, rest = hit[1], hit[2]
    nested = rest.count("://")
    if scheme.lower().partition("+")[0] not in _PUBLIC_SCHEMES or nested > _MAX_NESTED_URLS:
        return f"{scheme}://{REDACTED}"
    if nested:
        rest = _URL.sub(_hide_in_url, rest)
    return f"{scheme}://" + (_USER_INFO.sub(f"{REDACTED}@", rest) if "@" in rest else rest)


def _hide_scheme_value(hit: re.Match[str]) -> str:
    if hit[1][:5].lower() == "basic" and not _is_basic_value(hit[2]):
        return hit[0]  # "basic arithmetic"
    return f"{hit[1]}{REDACTED}"


def _is_basic_value(text: str) -> bool:
    try:
        return b":" in base64.b64decode(text[: len(text) // 4 * 4], validate=True)
    except (binascii.Error, ValueError):
        return False


def _hide_bare_token(hit: re.Match[str]) -> str:
    word = hit[0]
    capitals = sum(c.isupper() for c in word)
    is_random = capitals and any(c.islower() for c in word)
    if not is_random or not (capitals >= 8 or any(c.isdigit() for c in word)):
        return word
    # A directory's ids may have the same form: Microsoft Entra's `sub` has.
    before = hit.string[max(0, hit.start() - 24) : hit.start()]
    return word if _ID_BEFORE.search(before) else REDACTED


def _hide_named_values(text: str) -> str:
    parts: list[str] = []
    done = 0
    for hit in _NAME.finditer(text):
        name = hit[1] or hit[2]
        if hit.start() < done or not is_secret_name(name):
            continue
        span = _value_at(text, hit.end(), name)
        if span is None:
            continue
        value_from, value_to = span
        parts += [text[done:value_from], REDACTED]
        done = value_to
    return "".join([*parts, text[done:]]) if parts else text


def _value_at(text: str, start: int, name: str) -> tuple[int, int] | None:
    """Return where the value of a secret name is, without its quotes."""
    for form in (_QUOTED, _ESCAPED):
        quoted = form.match(text, start)
        if quoted is not None:
            opening = len(quoted[1])
            closed = quoted.end() - quoted.start() >= 2 * opening and quoted[0].endswith(quoted[1])
            if "," in text[start - 2 : start] and text[quoted.end() :][:1] == ":":
                return None  # another name
            return start + opening, quoted.end() - (opening if closed else 0)
    bracketed = _BRACKETED.match(text, start)
    if bracketed is not None:
        return bracketed.span()
    if _PLACEHOLDER.match(text, start):  # "Authorization: Bearer <token>"
        return None
    is_header = name.lower().rpartition("-")[2] in _HEADERS
    plain = (_HEADER_VALUE if is_header else _UNQUOTED).match(text, start)
    if plain is None:
        return None
    if is_header and "=" in plain[0] and text[plain.end() : plain.end() + 1] == '"':
        plain = _PARAMETERS.match(text, start)  # Digest username="...", response="..."
    return None if plain is None or _is_harmless(name.lower(), plain[0]) else (start, plain.end())


def _is_harmless(name: str, value: str) -> bool:
    if name.endswith("tokens"):
        return value.rstrip(".,;)]}").isdigit()
    return name.endswith("signature") and len(value) < 16  # "the signature: it cannot be read"


def _mask_email(hit: re.Match[str]) -> str:
    first = re.search(r"\w", hit[1] or "")
    return f"{first[0] if first else ''}***@"
