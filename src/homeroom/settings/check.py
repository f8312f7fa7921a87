"""Problems of well-formed settings, each with its fix.

These checks compare several settings, or inspect the machine: folders, files, installed packages.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit

from homeroom.errors import ConfigurationError
from homeroom.settings.model import ENV_PREFIX, Settings, known_names
from homeroom.settings.outgoing_check import credential_problems, message_problems, partner_problems
from homeroom.settings.problem import SettingProblem
from homeroom.settings.school_accounts import school_account_problems
from homeroom.settings.unknown_names import unknown_setting_problems

_MODEL_PACKAGES = {"openai": "openai", "anthropic": "anthropic", "google": "google.genai"}
"""The package of a provider by ``HOMEROOM_LLM_KIND``; all are part of the extra ``llm``."""


def find_setting_problems(
    settings: Settings,
    environ: Mapping[str, str] | None = None,
    step_names: Collection[str] = (),
) -> list[SettingProblem]:
    """Return the problems of the settings, errors first.

    ``step_names`` are the names of the settings of the steps that are installed.
    """
    problems = [
        *_storage_problems(settings),
        *_missing_package_problems(settings),
        *_redis_problems(settings),
        *_access_problems(settings),
        *school_account_problems(
            settings, is_loopback=settings.is_loopback, public_url=settings.public_url
        ),
        *partner_problems(settings),
        *credential_problems(settings),
        *message_problems(settings),
        *_model_problems(settings),
        *unknown_setting_problems(
            os.environ if environ is None else environ, [*known_names(), *step_names], ENV_PREFIX
        ),
    ]
    return sorted(problems, key=lambda problem: problem.severity)


def _storage_problems(settings: Settings) -> list[SettingProblem]:
    problems = []
    try:
        embedded = settings.is_embedded
    except ConfigurationError as error:
        message = error.message.removeprefix("HOMEROOM_DATABASE_URL ")  # the line begins with it
        message = message[:1].upper() + message[1:]
        problems.append(SettingProblem("HOMEROOM_DATABASE_URL", message, error.hint or ""))
        embedded = True
    folder = settings.data_dir.resolve()
    while not folder.exists():
        folder = folder.parent
    if embedded and not folder.is_dir():
        problems.append(
            SettingProblem(
                "HOMEROOM_DATA_DIR",
                f"{folder} is a file, not a folder.",
                "Name the folder that holds the database, or one that can be created.",
            )
        )
    elif embedded and not os.access(folder, os.W_OK | os.X_OK):
        problems.append(
            SettingProblem(
                "HOMEROOM_DATA_DIR",
                f"{settings.data_dir} cannot be written.",
                f"Name another folder, or give this user write access to {folder}.",
            )
        )
    if settings.processes > 1 and embedded:
        problems.append(
            SettingProblem(
                "HOMEROOM_PROCESSES",
                f"{settings.processes} processes cannot share a SQLite file: it has one writer at a"
                " time.",
                "Set it to 1, or move to PostgreSQL (HOMEROOM_DATABASE_URL); UPGRADE.md says how.",
            )
        )
    return problems


def _missing_package_problems(settings: Settings) -> list[SettingProblem]:
    """Return a problem for each missing extra that the settings need."""
    needed: list[tuple[str, str, tuple[str, ...]]] = []
    if settings.uses_redis:
        names = ("HOMEROOM_QUEUE_URL", "HOMEROOM_REDIS_SENTINELS", "REDIS_HOST")
        used = (settings.queue_url is not None, bool(settings.redis_sentinels), True)
        needed.append((names[used.index(True)], "redis", ("bullmq", "redis")))
    if _is_postgres(settings):
        needed.append(("HOMEROOM_DATABASE_URL", "postgres", ("asyncpg", "greenlet")))
    if settings.oidc_issuer is not None:
        needed.append(("HOMEROOM_OIDC_ISSUER", "oidc", ("authlib",)))
    if settings.llm_model is not None:
        needed.append(
            ("HOMEROOM_LLM_MODEL", "llm", ("pydantic_ai", _MODEL_PACKAGES[settings.llm_kind]))
        )
    for name, url in (("SMS", settings.sms_url), ("CHAT", settings.chat_url)):
        if url is not None:
            needed.append((f"HOMEROOM_{name}_URL", "channels", ("apprise",)))
    problems = []
    for setting, extra, packages in needed:
        missing = [package for package in packages if not _is_installed(package)]
        if missing:
            problems.append(
                SettingProblem(
                    setting,
                    f"It needs packages that are not installed: {', '.join(missing)}.",
                    f"Install them with: pip install 'homeroom[{extra}]'",
                )
            )
    return problems


def _is_postgres(settings: Settings) -> bool:
    """Return whether the database is on a server; False for an unreadable URL."""
    try:
        return not settings.is_embedded
    except ConfigurationError:
        return False


def _is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False


def _redis_problems(settings: Settings) -> list[SettingProblem]:
    problems: list[SettingProblem] = []
    addresses = {
        "HOMEROOM_QUEUE_URL": settings.queue_url is not None,
        "HOMEROOM_REDIS_SENTINELS": bool(settings.redis_sentinels),
        "REDIS_HOST": settings.redis_host is not None,
    }
    used = [name for name, is_set in addresses.items() if is_set]
    if not used:
        return problems
    if len(used) > 1:
        is_ambiguous = settings.queue_url is not None and bool(settings.redis_sentinels)
        problems.append(
            SettingProblem(
                used[0],
                f"Redis is named by {len(used)} settings: {', '.join(used)}.",
                f"Unset all but one. {used[0]} is used.",
                "error" if is_ambiguous else "warning",
            )
        )
    tls = settings.redis_tls or _is_tls_url(settings)
    ca_file = settings.redis_ca_file
    if ca_file is not None and not ca_file.is_file():
        problems.append(
            SettingProblem(
                "HOMEROOM_REDIS_CA_FILE",
                f"There is no file {ca_file}.",
                "Name the file of the certificates, in PEM form.",
            )
        )
    if not tls and ca_file is not None:
        problems.append(
            SettingProblem(
                "HOMEROOM_REDIS_CA_FILE",
                "The connection to Redis is not encrypted, so no certificate is checked.",
                "Write rediss:// in HOMEROOM_QUEUE_URL, or set HOMEROOM_REDIS_TLS=true.",
                "warning",
            )
        )
    if settings.redis_tls and used[0] == "HOMEROOM_QUEUE_URL" and not _is_tls_url(settings):
        problems.append(
            SettingProblem(
                "HOMEROOM_REDIS_TLS",
                "It has no effect on HOMEROOM_QUEUE_URL, whose scheme is redis://.",
                "Write rediss:// in HOMEROOM_QUEUE_URL.",
            )
        )
    return problems


def _is_tls_url(settings: Settings) -> bool:
    """Return whether the URL of Redis requires TLS."""
    return (settings.queue or "").startswith("rediss:")


def _access_problems(settings: Settings) -> list[SettingProblem]:
    problems = []
    key, secret = settings.admin_key, settings.jwt_secret
    jwks, issuer = settings.jwt_jwks_url, settings.oidc_issuer
    if not settings.is_loopback and not (key or secret or jwks or issuer):
        problems.append(
            SettingProblem(
                "HOMEROOM_HOST",
                f"{settings.host} is reachable from other machines, but no way to sign in is set.",
                "Set HOMEROOM_ADMIN_KEY, HOMEROOM_JWT_SECRET, HOMEROOM_JWT_JWKS_URL or"
                " HOMEROOM_OIDC_ISSUER, or listen on 127.0.0.1.",
            )
        )
    if key is not None and len(key.get_secret_value()) < 16:
        problems.append(
            SettingProblem(
                "HOMEROOM_ADMIN_KEY",
                "The key is short enough to be guessed.",
                "Use 16 characters or more, such as the output of: openssl rand -hex 32",
            )
        )
    if secret is not None and len(secret.get_secret_value().encode()) < 32:
        problems.append(
            SettingProblem(
                "HOMEROOM_JWT_SECRET",
                "HS256 needs a secret of 32 bytes or more (RFC 7518, section 3.2).",
                "Use a longer one, such as the output of: openssl rand -hex 32",
            )
        )
    if (
        jwks
        and jwks.startswith("http:")
        and urlsplit(jwks).hostname not in {"localhost", "127.0.0.1"}
    ):
        problems.append(
            SettingProblem(
                "HOMEROOM_JWT_JWKS_URL",
                "Keys that are fetched over plain HTTP can be replaced on the way.",
                "Use the https address.",
                "warning",
            )
        )
    if settings.test_clock is not None and not settings.is_loopback:
        problems.append(
            SettingProblem("HOMEROOM_TEST_CLOCK", "A moved clock stores wrong times.", "Unset it.")
        )
    return problems


def _model_problems(settings: Settings) -> list[SettingProblem]:
    problems = []
    if settings.llm_model is None:
        for name in ("url", "api_key", "budget"):
            if getattr(settings, f"llm_{name}") is not None:
                problems.append(
                    SettingProblem(
                        f"HOMEROOM_LLM_{name.upper()}",
                        "Without a model it has no effect: lesson plans are written by rule.",
                        "Set HOMEROOM_LLM_MODEL, or unset this.",
                        "warning",
                    )
                )
    if (settings.llm_price_input is None) != (settings.llm_price_output is None):
        lacking = "INPUT" if settings.llm_price_input is None else "OUTPUT"
        problems.append(
            SettingProblem(
                f"HOMEROOM_LLM_PRICE_{lacking}",
                "Only one of the two prices is set.",
                "Set both, or neither.",
            )
        )
    return problems
