"""Say what is wrong with settings that are each well formed, and how to mend it."""

from __future__ import annotations

import binascii
import os
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Literal
from urllib.parse import urlsplit

from homeroom.errors import ConfigurationError
from homeroom.settings.model import PREFIX, Settings, env_name


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a setting and how to mend it; an ``error`` keeps a server from going."""

    setting: str
    what: str
    mend: str
    severity: Literal["error", "warning"] = "error"


def problems(settings: Settings, environ: Mapping[str, str] | None = None) -> list[Problem]:
    """Return what is wrong with the settings taken together, errors first."""
    found = [
        *_storage_problems(settings),
        *_redis_problems(settings),
        *_access_problems(settings),
        *_partner_problems(settings),
        *_message_problems(settings),
        *_model_problems(settings),
        *_unknown(os.environ if environ is None else environ),
    ]
    return sorted(found, key=lambda problem: problem.severity)


def _storage_problems(settings: Settings) -> list[Problem]:
    found = []
    try:
        embedded = settings.is_embedded
    except ConfigurationError as error:
        found.append(Problem("HOMEROOM_DATABASE_URL", error.message, error.hint or ""))
        embedded = True
    folder = settings.data_dir.resolve()
    while not folder.exists():
        folder = folder.parent
    if embedded and (not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK)):
        found.append(
            Problem(
                "HOMEROOM_DATA_DIR",
                f"{settings.data_dir} cannot be written.",
                f"Name another folder, or let this user write to {folder}.",
            )
        )
    if settings.processes > 1 and embedded:
        found.append(
            Problem(
                "HOMEROOM_PROCESSES",
                f"{settings.processes} processes cannot share a SQLite file: it has one writer at a"
                " time, so they would only wait for each other.",
                "Stay with one process, or move to PostgreSQL (HOMEROOM_DATABASE_URL); UPGRADE.md"
                " says how.",
            )
        )
    return found


def _redis_problems(settings: Settings) -> list[Problem]:
    found: list[Problem] = []
    ways = {
        "HOMEROOM_QUEUE_URL": settings.queue_url is not None,
        "HOMEROOM_REDIS_SENTINELS": bool(settings.redis_sentinels),
        "REDIS_HOST": settings.redis_host is not None,
    }
    used = [name for name, is_set in ways.items() if is_set]
    if not used:
        return found
    if len(used) > 1:
        both = settings.queue_url is not None and bool(settings.redis_sentinels)
        found.append(
            Problem(
                used[0],
                f"Redis is named in {len(used)} ways: {', '.join(used)}.",
                f"Unset all but one. {used[0]} counts.",
                "error" if both else "warning",
            )
        )
    if find_spec("bullmq") is None:
        found.append(
            Problem(
                used[0],
                "Jobs on Redis need packages that are not installed.",
                "Install them with: pip install 'homeroom[redis]'",
            )
        )
    tls = settings.redis_tls or _tls_url(settings)
    ca_file = settings.redis_ca_file
    if ca_file is not None and not ca_file.is_file():
        found.append(
            Problem(
                "HOMEROOM_REDIS_CA_FILE",
                f"There is no file {ca_file}.",
                "Name the file of the certificates, in PEM form.",
            )
        )
    if not tls and ca_file is not None:
        found.append(
            Problem(
                "HOMEROOM_REDIS_CA_FILE",
                "The connection to Redis is not encrypted, so no certificate is checked.",
                "Write rediss:// in HOMEROOM_QUEUE_URL, or set HOMEROOM_REDIS_TLS=true.",
                "warning",
            )
        )
    if settings.redis_tls and used[0] == "HOMEROOM_QUEUE_URL" and not _tls_url(settings):
        found.append(
            Problem(
                "HOMEROOM_REDIS_TLS",
                "It says nothing about a URL, which says redis:// itself.",
                "Write rediss:// in HOMEROOM_QUEUE_URL.",
            )
        )
    return found


def _tls_url(settings: Settings) -> bool:
    """Say whether the URL of Redis asks for TLS."""
    return (settings.queue or "").startswith("rediss:")


def _access_problems(settings: Settings) -> list[Problem]:
    found = []
    key, secret = settings.admin_key, settings.jwt_secret
    if not settings.is_loopback and not (key or secret or settings.jwt_jwks_url):
        found.append(
            Problem(
                "HOMEROOM_HOST",
                f"{settings.host} can be reached by others, but nobody could be told apart.",
                "Set HOMEROOM_ADMIN_KEY, HOMEROOM_JWT_SECRET or HOMEROOM_JWT_JWKS_URL, "
                "or listen on 127.0.0.1.",
            )
        )
    if key is not None and len(key.get_secret_value()) < 16:
        found.append(
            Problem(
                "HOMEROOM_ADMIN_KEY",
                "The key is short enough to be guessed.",
                "Use 16 characters or more, such as the output of: openssl rand -hex 32",
            )
        )
    if secret is not None and len(secret.get_secret_value().encode()) < 32:
        found.append(
            Problem(
                "HOMEROOM_JWT_SECRET",
                "HS256 needs a secret of 32 bytes or more (RFC 7518, section 3.2).",
                "Use a longer one, such as the output of: openssl rand -hex 32",
            )
        )
    jwks = settings.jwt_jwks_url
    if (
        jwks
        and jwks.startswith("http:")
        and urlsplit(jwks).hostname not in {"localhost", "127.0.0.1"}
    ):
        found.append(
            Problem(
                "HOMEROOM_JWT_JWKS_URL",
                "Keys that come over plain HTTP can be exchanged on the way.",
                "Use the https address.",
                "warning",
            )
        )
    if settings.test_clock is not None and not settings.is_loopback:
        found.append(
            Problem("HOMEROOM_TEST_CLOCK", "A moved clock makes records wrong.", "Unset it.")
        )
    return found


def _partner_problems(settings: Settings) -> list[Problem]:
    found = []
    secret = settings.webhook_secret
    if secret is not None and not _signs(secret.get_secret_value()):
        found.append(
            Problem(
                "HOMEROOM_WEBHOOK_SECRET",
                "Not a Standard Webhooks secret: `whsec_` and base64 of 24 to 64 bytes.",
                'Make one with: echo "whsec_$(openssl rand -base64 32)"',
            )
        )
    for name, url in (("ANALYTICS", settings.analytics_url), ("HR", settings.hr_url)):
        if url and secret is None:
            found.append(
                Problem(
                    "HOMEROOM_WEBHOOK_SECRET",
                    f"HOMEROOM_{name}_URL is set, but nothing signs what is sent there.",
                    'Make one with: echo "whsec_$(openssl rand -base64 32)"',
                )
            )
    if settings.credly_url:
        for name in ("organization", "token"):
            if not getattr(settings, f"credly_{name}"):
                found.append(
                    Problem(
                        f"HOMEROOM_CREDLY_{name.upper()}",
                        f"HOMEROOM_CREDLY_URL is set, but no {name}.",
                        "Set both from Credly's developer page, or unset the URL.",
                    )
                )
    for name in ("directory", "assessment"):
        if getattr(settings, f"{name}_token") and not getattr(settings, f"{name}_url"):
            found.append(
                Problem(
                    f"HOMEROOM_{name.upper()}_TOKEN",
                    f"A token is set, but HOMEROOM_{name.upper()}_URL is not.",
                    "Set the URL, or unset the token.",
                    "warning",
                )
            )
    return found


def _message_problems(settings: Settings) -> list[Problem]:
    found = []
    if settings.smtp_url is not None and settings.mail_from is None:
        found.append(
            Problem(
                "HOMEROOM_MAIL_FROM",
                "HOMEROOM_SMTP_URL is set, but nobody sends the mails.",
                "Set it, such as to: Homeroom <homeroom@example.org>",
            )
        )
    if settings.smtp_url is not None and settings.public_url is None:
        found.append(
            Problem(
                "HOMEROOM_PUBLIC_URL",
                f"Mails carry links to http://{settings.host}:{settings.port}, which those who get"
                " them cannot follow.",
                "Set it to the address by which people reach Homeroom, such as"
                " https://homeroom.example.org.",
                "warning",
            )
        )
    if settings.smtp_url is not None:
        parts = urlsplit(settings.smtp_url.get_secret_value())
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
            found.append(
                Problem(
                    "HOMEROOM_SMTP_URL",
                    "It is not the address of a mail server.",
                    "Write smtp://user:password@mail.example.org:587 or smtps://mail.example.org.",
                )
            )
        local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        if "tls=none" in parts.query and not local:
            found.append(
                Problem(
                    "HOMEROOM_SMTP_URL",
                    "Mails, and the password if there is one, go over the network in the clear.",
                    "Leave out tls=none; smtp:// then asks the server for STARTTLS.",
                    "error" if parts.password else "warning",
                )
            )
    secret = settings.email_hook_secret
    if secret is not None and not _signs(secret.get_secret_value()):
        found.append(
            Problem(
                "HOMEROOM_EMAIL_HOOK_SECRET",
                "Not a Standard Webhooks secret: `whsec_` and base64 of 24 to 64 bytes.",
                'Make one with: echo "whsec_$(openssl rand -base64 32)"',
            )
        )
    if settings.template_dir is not None and not settings.template_dir.is_dir():
        found.append(
            Problem(
                "HOMEROOM_TEMPLATE_DIR",
                f"There is no folder {settings.template_dir}.",
                "Make it, or unset it to use the built-in templates.",
            )
        )
    return found


def _model_problems(settings: Settings) -> list[Problem]:
    found = []
    if settings.llm_model is None:
        for name in ("url", "api_key", "budget"):
            if getattr(settings, f"llm_{name}") is not None:
                found.append(
                    Problem(
                        f"HOMEROOM_LLM_{name.upper()}",
                        "Without a model it has no effect: lesson plans are written by rule.",
                        "Set HOMEROOM_LLM_MODEL, or unset this.",
                        "warning",
                    )
                )
    if (settings.llm_price_input is None) != (settings.llm_price_output is None):
        lacking = "INPUT" if settings.llm_price_input is None else "OUTPUT"
        found.append(
            Problem(
                f"HOMEROOM_LLM_PRICE_{lacking}",
                "Only one of the two prices is set.",
                "Set both, or neither.",
            )
        )
    return found


def _signs(secret: str) -> bool:
    """Say whether a secret has the form and the length that Standard Webhooks asks for."""
    if not secret.startswith("whsec_"):
        return False
    encoded = secret.removeprefix("whsec_")
    try:
        key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        return False
    return 24 <= len(key) <= 64


def _unknown(environ: Mapping[str, str]) -> list[Problem]:
    known = [env_name(field, info) for field, info in Settings.model_fields.items()]
    found = []
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            near = get_close_matches(name, known, n=1)
            mend = f"Did you mean {near[0]}?" if near else "docs/settings.md lists all settings."
            found.append(Problem(name, "There is no such setting.", mend, "warning"))
    return sorted(found, key=lambda problem: problem.setting)
