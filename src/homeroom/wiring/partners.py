"""Build the partner systems that the settings name; an unset one is None, with its reason."""

from __future__ import annotations

import importlib
from datetime import timedelta

import httpx
from pydantic import SecretStr

from homeroom.credentials.api import (
    BuiltInDirectory,
    CourseScores,
    CredlyIssuer,
    Directory,
    HttpAssessment,
    HttpDirectory,
)
from homeroom.db.database import Database
from homeroom.dispatch.api import Destination
from homeroom.errors import ConfigurationError
from homeroom.jobs.api import Backoff
from homeroom.lessonplans.api import Generator, Limits, ModelConfig, Patience, RuleBased
from homeroom.partner import Partner, bearer
from homeroom.settings import Settings


def secret(value: SecretStr | None) -> str | None:
    """Return a secret's text, or None where it is unset."""
    return None if value is None else value.get_secret_value()


def public_url(settings: Settings) -> str:
    """Return how others reach this server."""
    return settings.public_url or f"http://{settings.host}:{settings.port}"


def directory(settings: Settings, db: Database, client: httpx.AsyncClient) -> Directory:
    """Return the directory that the settings name, else the built-in one."""
    if settings.directory_url is None:
        return BuiltInDirectory(db)
    token = bearer(secret(settings.directory_token))
    return HttpDirectory(
        Partner(client, "the directory", settings.directory_url, authorization=token)
    )


def assessment(settings: Settings, client: httpx.AsyncClient) -> HttpAssessment | CourseScores:
    """Return the assessment service that the settings name, else the course's own scores."""
    if settings.assessment_url is None:
        return CourseScores()
    token = bearer(secret(settings.assessment_token))
    return HttpAssessment(
        Partner(client, "the assessment service", settings.assessment_url, authorization=token)
    )


def issuer(settings: Settings, client: httpx.AsyncClient) -> CredlyIssuer | None:
    """Return Credly, or None where one of its settings is missing."""
    url, organization = settings.credly_url, settings.credly_organization
    token = secret(settings.credly_token)
    if url is None or organization is None or token is None:
        return None
    return CredlyIssuer(client, url, organization, token)


def credly_unset(settings: Settings) -> str:
    """Say which of Credly's settings is missing."""
    for name in ("credly_url", "credly_organization", "credly_token"):
        if getattr(settings, name) is None:
            return f"HOMEROOM_{name.upper()} is not set"
    return "HOMEROOM_CREDLY_URL is not set"


def destination(
    client: httpx.AsyncClient, settings: Settings, name: str, title: str, url: str | None
) -> Destination | None:
    """Return a webhook's destination, or None without its URL or the secret that signs."""
    key = secret(settings.webhook_secret)
    if url is None or key is None:
        return None
    return Destination(client, name, title, url, key)


def webhook_unset(settings: Settings) -> dict[str, str]:
    """Say which setting a destination lacks: its URL, or the secret that signs."""
    if settings.webhook_secret is not None:
        return {}
    urls = {"analytics": settings.analytics_url, "hr": settings.hr_url}
    return {name: "HOMEROOM_WEBHOOK_SECRET is not set" for name, url in urls.items() if url}


def generator(settings: Settings, db: Database) -> Generator:
    """Return what writes lesson plans: the model that the settings name, else the rules.

    Raises ``ConfigurationError`` where the packages for a model are not installed.
    """
    if settings.llm_model is None:
        return RuleBased()
    config = ModelConfig(
        kind=settings.llm_kind,
        model=settings.llm_model,
        url=settings.llm_url,
        key=secret(settings.llm_api_key),
        output=settings.llm_output,
        max_tokens=settings.llm_max_tokens,
        timeout=settings.llm_timeout,
        limits=Limits(
            settings.llm_requests_per_minute,
            settings.llm_tokens_per_minute,
            _micro(settings.llm_budget),
        ),
        currency=settings.llm_currency,
        input_price=_micro(settings.llm_price_input),
        output_price=_micro(settings.llm_price_output),
    )
    try:
        # an optional extra, which takes a second to load: only who uses a model waits for it
        module = importlib.import_module("homeroom.lessonplans.model.writer")
    except ImportError as error:
        raise ConfigurationError(
            f"HOMEROOM_LLM_MODEL is set, but a package for it is missing: {error.name}.",
            hint="Install it with: pip install 'homeroom[llm]'",
        ) from error
    made: Generator = module.ModelWriter(db, config)
    return made


def patience(settings: Settings) -> Patience:
    """Return how patiently a model is tried again."""
    delay = settings.llm_retry_delay
    cap = max(delay, timedelta(minutes=30))
    return Patience(settings.llm_retries, Backoff(base=delay, cap=cap))


def _micro(money: float | None) -> int | None:
    return None if money is None else round(money * 1_000_000)
