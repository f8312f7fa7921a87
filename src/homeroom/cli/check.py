"""``homeroom check``: check the configuration and the partners."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from homeroom.cli.application import describe_schema, require_database, require_unsealed
from homeroom.cli.finding import (
    ConfigurationFinding,
    disk_finding,
    partner_findings,
    worker_findings,
)
from homeroom.cli.group import JsonOption, LazyModule, command_group, epilog
from homeroom.cli.terminal import pluralize, print_json, print_text
from homeroom.errors import ConfigurationError, HomeroomError, Unavailable

if TYPE_CHECKING:
    import asyncio

    import httpx
    from pydantic import SecretStr

    from homeroom import settings as settings_model
    from homeroom.bootstrap import database, job_engine
    from homeroom.bootstrap import steps as installed_steps
    from homeroom.notify import api as notify
    from homeroom.partner import client as partner_calls
    from homeroom.partner import failure as partner_failure
    from homeroom.partner.client import Partner
    from homeroom.settings import Settings
else:
    asyncio = LazyModule("asyncio")
    database = LazyModule("homeroom.bootstrap.database")
    installed_steps = LazyModule("homeroom.bootstrap.steps")
    job_engine = LazyModule("homeroom.bootstrap.job_engine")
    notify = LazyModule("homeroom.notify.api")
    partner_calls = LazyModule("homeroom.partner.client")
    partner_failure = LazyModule("homeroom.partner.failure")
    settings_model = LazyModule("homeroom.settings")

app = command_group("Check the configuration.")
CHECK_EPILOG = epilog(
    "homeroom check",
    "homeroom check --connect",
    "homeroom check --json | jq '.items[] | select(.status != \"ok\")'",
)
PROBE_TIMEOUT = timedelta(seconds=5)
_UNKNOWN_ID = "homeroom-check"
"""An id of no user: a 404 for it shows that the partner reads the request."""
_MODEL_URLS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com",
}


@dataclass(frozen=True, slots=True)
class PartnerProbeResult:
    """The state of a partner; ``fault`` is None if it can be used."""

    setting: str
    name: str
    fault: str | None
    fix: str = ""


class _JwksDocument(msgspec.Struct):
    keys: list[dict[str, object]]


class _DiscoveryDocument(msgspec.Struct):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


@dataclass(frozen=True, slots=True)
class _PartnerProbe:
    setting: str
    partner: Partner
    send: Callable[[Partner], Awaitable[object]]
    key_setting: str
    """The setting of its key, named if the partner refuses the key."""


@app.command("check", epilog=CHECK_EPILOG)
def check(
    connect: Annotated[
        bool,
        typer.Option("--connect", help="Send a request to every partner too."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check the configuration and show how to fix it. Nothing is changed.

    It checks the settings, the disk, the database, its schema and the workers, and with --connect
    Redis, if jobs go through it, and the partners: directory and assessment are asked for a user
    who does not exist, Credly for that user's badges, webhooks for a response to HEAD, the identity
    provider for its discovery document, and the mail server for a greeting. Warnings leave the exit
    code at 0.
    """
    try:
        settings = database.load_settings()
    except ConfigurationError as error:
        findings = [_error_finding("settings", error)]
    else:
        findings = [*_check_settings(settings), *_check_steps(settings)]
        faulty = {finding.subject for finding in findings if finding.status == "error"}
        if "HOMEROOM_DATABASE_URL" not in faulty:
            findings += _check_database(settings)
        if connect:
            if faulty.isdisjoint({"HOMEROOM_QUEUE_URL", "HOMEROOM_REDIS_SENTINELS", "REDIS_HOST"}):
                findings += _check_redis(settings)
            findings += _check_partners(settings)
    findings.sort(key=lambda finding: ("error", "warning", "ok").index(finding.status))
    _print_findings(findings, as_json)


def _error_finding(subject: str, error: HomeroomError) -> ConfigurationFinding:
    return ConfigurationFinding("error", subject, error.message, error.hint, error.exit_code)


def _check_settings(settings: Settings) -> list[ConfigurationFinding]:
    findings = [
        ConfigurationFinding(
            each.severity,
            each.setting,
            each.message,
            each.fix,
            ConfigurationError.exit_code if each.severity == "error" else 0,
        )
        for each in settings_model.find_setting_problems(settings, None, _step_names(settings))
    ]
    if any(each.status == "error" for each in findings):
        return findings
    return [ConfigurationFinding("ok", "settings", "A server can run with them."), *findings]


def _step_names(settings: Settings) -> list[str]:
    """Return the names of the steps' settings; none where a step cannot be used."""
    try:
        return installed_steps.installed_setting_names(settings)
    except ConfigurationError:
        return []


def _check_steps(settings: Settings) -> list[ConfigurationFinding]:
    """Return the completion step that cannot be used, or has invalid settings."""
    try:
        installed_steps.check_installed_steps(settings)
    except ConfigurationError as error:
        return [_error_finding("steps", error)]
    return []


def _check_database(settings: Settings) -> list[ConfigurationFinding]:
    location = settings.database_name
    disk = disk_finding(settings)
    disk_findings = [] if disk is None else [disk]
    try:
        state = require_database(settings)
        require_unsealed(settings)
        parts = [*worker_findings(), *partner_findings(settings)]
    except HomeroomError as error:
        return [*disk_findings, _error_finding("database", error)]
    status: Literal["ok", "warning"] = "warning" if state.is_newer else "ok"
    return [
        *disk_findings,
        *parts,
        ConfigurationFinding(status, "database", f"{location} is {describe_schema(state)}."),
        *_check_file_permissions(settings.database_location),
    ]


def _check_file_permissions(location: Path | str) -> list[ConfigurationFinding]:
    """Warn of a file that other users may read, as early releases created it."""
    if not isinstance(location, Path) or not location.stat().st_mode & 0o077:
        return []
    what = f"Other users of this machine may read {location}; it holds people's addresses."
    return [
        ConfigurationFinding(
            "warning", "database", what, f"Restrict it with: chmod 600 {location}*"
        )
    ]


def _check_redis(settings: Settings) -> list[ConfigurationFinding]:
    if not settings.uses_redis:
        return []
    try:
        fault = asyncio.run(job_engine.check_redis(settings))
    except ConfigurationError as error:
        return [_error_finding("redis", error)]
    if fault is None:
        return [ConfigurationFinding("ok", "redis", "Redis responds and can store jobs.")]
    fix = (
        "Check HOMEROOM_QUEUE_URL, REDIS_HOST or HOMEROOM_REDIS_SENTINELS, the password, and that"
        " this machine may reach Redis."
    )
    if "maxmemory-policy" in fault:
        fix = "Set in redis.conf: maxmemory-policy noeviction"
    elif "oldest" in fault:
        fix = "Install a newer Redis."
    return [
        ConfigurationFinding(
            "error", "redis", f"{fault.removesuffix('.')}.", fix, Unavailable.exit_code
        )
    ]


def _check_partners(settings: Settings) -> list[ConfigurationFinding]:
    findings = [
        ConfigurationFinding("ok", each.setting, f"{each.name} responds.")
        if each.fault is None
        else ConfigurationFinding(
            "error", each.setting, each.fault, each.fix, Unavailable.exit_code
        )
        for each in asyncio.run(probe_partners(settings))
    ]
    return findings or [ConfigurationFinding("ok", "partners", "No partner is configured.")]


def _print_findings(findings: list[ConfigurationFinding], as_json: bool) -> None:
    """Print the findings and end with the highest of their exit codes."""
    if as_json:
        items = [_finding_fields(finding) for finding in findings]
        print_json({"ok": all(finding.status != "error" for finding in findings), "items": items})
    else:
        for finding in findings:
            print_text(f"{finding.status:<8} {finding.subject}: {finding.what}")
            if finding.fix:
                print_text(f"{'':<8} Fix: {finding.fix}")
        errors = sum(finding.status == "error" for finding in findings)
        if errors:
            print_text(f"\n{pluralize(errors, 'error')} to fix.")
    code = max((finding.exit_code for finding in findings), default=0)
    if code:
        raise typer.Exit(code)


def _finding_fields(finding: ConfigurationFinding) -> dict[str, Any]:
    fields = asdict(finding)
    del fields["exit_code"]
    return fields


async def probe_partners(settings: Settings) -> list[PartnerProbeResult]:
    """Send a request to all configured partners at once, each with a timeout."""
    async with partner_calls.open_partner_client() as client:
        probing = [_run_probe(probe) for probe in _partner_probes(settings, client)]
        if settings.smtp_url is not None and settings.mail_from is not None:
            probing.append(_probe_mail_server(settings, settings.smtp_url, settings.mail_from))
        return list(await asyncio.gather(*probing))


def _partner_probes(settings: Settings, client: httpx.AsyncClient) -> list[_PartnerProbe]:
    """Return the probes of the partners that have a URL in the settings."""
    probes: list[_PartnerProbe] = []

    def add(
        setting: str,
        name: str,
        url: str | None,
        send: Callable[[Partner], Awaitable[object]],
        authorization: str | None = None,
        key_setting: str = "",
        secret: str | None = None,
    ) -> None:
        if url is not None:
            partner = partner_calls.Partner(
                client,
                name,
                url,
                authorization=authorization,
                timeout=PROBE_TIMEOUT,
                secrets=() if secret is None else (secret,),
            )
            probes.append(_PartnerProbe(setting, partner, send, key_setting))

    directory, assessment = settings.directory_token, settings.assessment_token
    add(
        "HOMEROOM_DIRECTORY_URL",
        "the directory",
        settings.directory_url,
        _probe_directory,
        partner_calls.bearer_auth_header(_secret_value(directory)),
        "HOMEROOM_DIRECTORY_TOKEN",
    )
    add(
        "HOMEROOM_ASSESSMENT_URL",
        "the assessment service",
        settings.assessment_url,
        _probe_assessment,
        partner_calls.bearer_auth_header(_secret_value(assessment)),
        "HOMEROOM_ASSESSMENT_TOKEN",
    )
    token, organization = _secret_value(settings.credly_token), settings.credly_organization
    if token is not None and organization is not None:
        add(
            "HOMEROOM_CREDLY_URL",
            "Credly",
            settings.credly_url,
            lambda credly: _probe_credly(credly, organization),
            partner_calls.basic_auth_header(token),
            "HOMEROOM_CREDLY_TOKEN or HOMEROOM_CREDLY_ORGANIZATION",
        )
    model_key = _secret_value(settings.llm_api_key)
    add(
        "HOMEROOM_LLM_URL",
        f"the language model {settings.llm_model}",
        _model_url(settings),
        lambda model: _probe_language_model(model, settings.llm_kind, model_key),
        partner_calls.bearer_auth_header(model_key) if settings.llm_kind == "openai" else None,
        "HOMEROOM_LLM_API_KEY",
        model_key,
    )
    add("HOMEROOM_ANALYTICS_URL", "analytics", settings.analytics_url, _probe_webhook)
    add("HOMEROOM_HR_URL", "the HR system", settings.hr_url, _probe_webhook)
    add(
        "HOMEROOM_XAPI_URL",
        "the learning record store",
        settings.xapi_url,
        _probe_record_store,
        _xapi_authorization(settings),
        "HOMEROOM_XAPI_LOGIN",
    )
    add("HOMEROOM_JWT_JWKS_URL", "the JWKS server", settings.jwt_jwks_url, _probe_jwks)
    issuer = settings.oidc_issuer
    add(
        "HOMEROOM_OIDC_ISSUER",
        "the identity provider",
        issuer,
        lambda provider: _probe_identity_provider(provider, issuer or ""),
    )
    return probes


async def _probe_mail_server(
    settings: Settings, url: SecretStr, mail_from: str
) -> PartnerProbeResult:
    setting, name = "HOMEROOM_SMTP_URL", "the mail server"
    try:
        sender = notify.SmtpSender(
            notify.parse_smtp_url(url.get_secret_value()),
            notify.MailIdentity(mail_from),
            notify.SmtpSessionOptions(settings.ehlo_name, PROBE_TIMEOUT.total_seconds()),
        )
    except ConfigurationError as error:
        return PartnerProbeResult(setting, name, error.message, error.hint or "")
    fault = await sender.check_connection()
    if fault is None:
        return PartnerProbeResult(setting, name, None)
    fix = f"Check {setting}, its user and password, and that this machine may reach the server."
    return PartnerProbeResult(setting, name, f"{fault[0].upper()}{fault[1:]}.", fix)


def _secret_value(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def _probe_directory(partner: Partner) -> object:
    return await partner.call("GET", ("users", _UNKNOWN_ID), expect={404})


def _xapi_authorization(settings: Settings) -> str | None:
    key, _, secret = (_secret_value(settings.xapi_login) or "").partition(":")
    return partner_calls.basic_auth_header(key, secret) if key else None


async def _probe_record_store(partner: Partner) -> object:
    """Ask for a statement that does not exist, as the key has to allow."""
    query = {"statementId": "00000000-0000-5000-8000-000000000000"}
    headers = {"x-experience-api-version": "1.0.3"}
    return await partner.call("GET", ("statements",), query=query, headers=headers, expect={404})


async def _probe_assessment(partner: Partner) -> object:
    path = ("users", _UNKNOWN_ID, "courses", _UNKNOWN_ID, "score")
    return await partner.call("GET", path, expect={404})


async def _probe_credly(partner: Partner, organization: str) -> object:
    query = {"filter": f"issuer_earner_id::{_UNKNOWN_ID}"}
    return await partner.call("GET", ("organizations", organization, "badges"), query=query)


def _model_url(settings: Settings) -> str | None:
    if settings.llm_model is None:
        return None
    return settings.llm_url or _MODEL_URLS[settings.llm_kind]


async def _probe_language_model(partner: Partner, kind: str, key: str | None) -> object:
    """Request the list of models, which costs nothing and needs the key."""
    names = {"anthropic": "x-api-key", "google": "x-goog-api-key"}
    headers = {names[kind]: key} if kind in names and key is not None else {}
    if kind == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
    path = {"anthropic": ("v1", "models"), "google": ("v1beta", "models")}.get(kind, ("models",))
    return await partner.call("GET", path, headers=headers)


async def _probe_webhook(partner: Partner) -> object:
    # No event is sent, so a receiver of POST alone may refuse HEAD. Any response shows that it
    # runs, but for a server error, and 410, with which it ends its subscription.
    return await partner.call("HEAD", expect=set(range(300, 500)) - {410})


async def _probe_jwks(partner: Partner) -> object:
    return (await partner.call("GET")).decode(_JwksDocument)


async def _probe_identity_provider(partner: Partner, issuer: str) -> object:
    """Read the discovery document, which has to name the issuer of the setting."""
    response = await partner.call("GET", (".well-known", "openid-configuration"))
    document = response.decode(_DiscoveryDocument)
    if document.issuer.rstrip("/") != issuer:
        raise partner_failure.PartnerError(
            f"{partner.name} calls itself by another issuer than the setting", kind="unreadable"
        )
    return document


async def _run_probe(probe: _PartnerProbe) -> PartnerProbeResult:
    name = probe.partner.name
    try:
        await probe.send(probe.partner)
    except partner_failure.PartnerError as error:
        fix = f"Check {probe.setting}, and that this machine may reach it."
        if error.response_status in {401, 403} and probe.key_setting:
            fix = f"Check {probe.key_setting}."
        return PartnerProbeResult(probe.setting, name, error.message + ".", fix)
    return PartnerProbeResult(probe.setting, name, None)
