"""Ask every configured partner whether it is there and takes our key, changing nothing there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import msgspec
from pydantic import SecretStr

from homeroom.errors import ConfigurationError
from homeroom.notify.api import Sender, SmtpCarrier, parse_url
from homeroom.partner import Partner, PartnerError, basic, bearer, open_client
from homeroom.wiring import Settings

TIMEOUT = timedelta(seconds=5)
_NOBODY = "homeroom-check"
"""An id that nobody has: a 404 for it shows that the partner reads the request."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How a partner is: ``fault`` None if it can be used."""

    setting: str
    name: str
    fault: str | None
    mend: str = ""


_MODEL_URLS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com",
}


class _Keys(msgspec.Struct):
    keys: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class _Visit:
    setting: str
    partner: Partner
    ask: Callable[[Partner], Awaitable[object]]
    key: str
    """The setting of its key, named where the key is refused."""


async def reach(settings: Settings) -> list[Reached]:
    """Ask all configured partners at once, each for five seconds at most."""
    async with open_client() as client:
        visits: list[_Visit] = []

        def add(
            setting: str,
            name: str,
            url: str | None,
            ask: Callable[[Partner], Awaitable[object]],
            authorization: str | None = None,
            key: str = "",
            hidden: str | None = None,
        ) -> None:
            if url is not None:
                partner = Partner(
                    client,
                    name,
                    url,
                    authorization=authorization,
                    timeout=TIMEOUT,
                    secrets=() if hidden is None else (hidden,),
                )
                visits.append(_Visit(setting, partner, ask, key))

        directory, assessment = settings.directory_token, settings.assessment_token
        add(
            "HOMEROOM_DIRECTORY_URL",
            "the directory",
            settings.directory_url,
            _somebody,
            bearer(_open(directory)),
            "HOMEROOM_DIRECTORY_TOKEN",
        )
        add(
            "HOMEROOM_ASSESSMENT_URL",
            "the assessment service",
            settings.assessment_url,
            _score,
            bearer(_open(assessment)),
            "HOMEROOM_ASSESSMENT_TOKEN",
        )
        token, organization = _open(settings.credly_token), settings.credly_organization
        if token is not None and organization is not None:
            add(
                "HOMEROOM_CREDLY_URL",
                "Credly",
                settings.credly_url,
                lambda credly: _badges(credly, organization),
                basic(token),
                "HOMEROOM_CREDLY_TOKEN or HOMEROOM_CREDLY_ORGANIZATION",
            )
        model_key = _open(settings.llm_api_key)
        add(
            "HOMEROOM_LLM_URL",
            f"the language model {settings.llm_model}",
            _model_url(settings),
            lambda model: _models(model, settings.llm_kind, model_key),
            bearer(model_key) if settings.llm_kind == "openai" else None,
            "HOMEROOM_LLM_API_KEY",
            model_key,
        )
        add("HOMEROOM_ANALYTICS_URL", "analytics", settings.analytics_url, _webhook)
        add("HOMEROOM_HR_URL", "the HR system", settings.hr_url, _webhook)
        add("HOMEROOM_JWT_JWKS_URL", "the JWKS server", settings.jwt_jwks_url, _keys)
        asked = [_visited(visit) for visit in visits]
        if settings.smtp_url is not None and settings.mail_from is not None:
            asked.append(_mail(settings.smtp_url, settings.mail_from))
        return list(await asyncio.gather(*asked))


async def _mail(url: SecretStr, mail_from: str) -> Reached:
    setting, name = "HOMEROOM_SMTP_URL", "the mail server"
    try:
        carrier = SmtpCarrier(
            parse_url(url.get_secret_value()),
            Sender(mail_from),
            timeout_seconds=TIMEOUT.total_seconds(),
        )
    except ConfigurationError as error:
        return Reached(setting, name, error.message, error.hint or "")
    fault = await carrier.greet()
    if fault is None:
        return Reached(setting, name, None)
    mend = f"See that {setting} is right, its user and password too, and can be reached from here."
    return Reached(setting, name, f"{fault[0].upper()}{fault[1:]}.", mend)


def _open(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def _somebody(partner: Partner) -> object:
    return await partner.call("GET", ("users", _NOBODY), expect={404})


async def _score(partner: Partner) -> object:
    path = ("users", _NOBODY, "courses", _NOBODY, "score")
    return await partner.call("GET", path, expect={404})


async def _badges(partner: Partner, organization: str) -> object:
    query = {"filter": f"issuer_earner_id::{_NOBODY}"}
    return await partner.call("GET", ("organizations", organization, "badges"), query=query)


def _model_url(settings: Settings) -> str | None:
    if settings.llm_model is None:
        return None
    return settings.llm_url or _MODEL_URLS[settings.llm_kind]


async def _models(partner: Partner, kind: str, key: str | None) -> object:
    """Ask for the list of models, which costs nothing and needs the key."""
    names = {"anthropic": "x-api-key", "google": "x-goog-api-key"}
    headers = {names[kind]: key} if kind in names and key is not None else {}
    if kind == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
    path = {"anthropic": ("v1", "models"), "google": ("v1beta", "models")}.get(kind, ("models",))
    return await partner.call("GET", path, headers=headers)


async def _webhook(partner: Partner) -> object:
    # No event is sent, so whoever takes POST alone may well refuse: any answer shows that it is
    # there, but for a failing server, and 410, which says that it wants no more.
    return await partner.call("HEAD", expect=set(range(300, 500)) - {410})


async def _keys(partner: Partner) -> object:
    return (await partner.call("GET")).read(_Keys)


async def _visited(visit: _Visit) -> Reached:
    name = visit.partner.name
    try:
        await visit.ask(visit.partner)
    except PartnerError as error:
        mend = f"See that {visit.setting} is right and that this machine may reach it."
        if error.answered in {401, 403} and visit.key:
            mend = f"See that {visit.key} is right."
        return Reached(visit.setting, name, error.message + ".", mend)
    return Reached(visit.setting, name, None)
