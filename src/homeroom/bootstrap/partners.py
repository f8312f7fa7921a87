"""Clients of the configured partner systems; reasons for the missing ones."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from homeroom.bootstrap.partner_keys import credly_key
from homeroom.credentials.api import (
    BuiltInLearnerDirectory,
    CertificateStyle,
    CourseScoreLookup,
    CredlyIssuer,
    Evidence,
    HttpLearnerDirectory,
    HttpScoreLookup,
    IssuerProfile,
    LearnerDirectory,
    OpenBadgeIssuer,
    read_key_file,
)
from homeroom.db.database import Database
from homeroom.dispatch.api import Destination, XapiConfig
from homeroom.dispatch.destinations import DestinationProfile
from homeroom.errors import ConfigurationError
from homeroom.jobs.api import Backoff, FixedDelays
from homeroom.lessonplans.api import (
    LessonGenerator,
    LessonRetryPolicy,
    ModelConfig,
    ModelLimits,
    RuleBasedGenerator,
)
from homeroom.lessonplans.export.print_style import PrintStyle
from homeroom.monitoring.metrics import Metrics
from homeroom.notify.api import (
    AppriseSender,
    Channel,
    ChannelSender,
    DisabledSender,
    InlineImage,
    MailIdentity,
    MessageTemplates,
    Notifications,
    School,
    SmtpSender,
    SmtpSessionOptions,
    parse_smtp_url,
)
from homeroom.notify.delivery_rules import MAIL_GATE
from homeroom.notify.school import LOGO_CONTENT_ID
from homeroom.partner.client import Partner, basic_auth_header, bearer_auth_header
from homeroom.partner.gate import PartnerGate
from homeroom.settings import Settings
from homeroom.settings.school_files import ProgrammeFolder, list_programme_folders, read_logo

_MAIL_RATE = 20.0
"""Held mails that start per second once the mail server accepts mails again."""


def secret_text(value: SecretStr | None) -> str | None:
    """Return a secret's text, or None where it is unset."""
    return None if value is None else value.get_secret_value()


def public_url(settings: Settings) -> str:
    """Return the URL by which others reach this server."""
    return settings.public_url or f"http://{settings.host}:{settings.port}"


def destination_profiles(
    settings: Settings, of_steps: Sequence[DestinationProfile]
) -> list[DestinationProfile]:
    """Return the partner systems that jobs call, in the order of lists.

    ``of_steps`` are those of the steps that send messages.
    """
    has_credly = None not in (
        settings.credly_url,
        settings.credly_organization,
        settings.credly_token,
    )
    return [
        DestinationProfile(
            "credly",
            "credentials",
            has_credly,
            settings.credly_rate,
            "credential" if settings.uses_credly else None,
            credly_key(settings),
        ),
        DestinationProfile(
            "directory", "directory", settings.directory_url is not None, settings.directory_rate
        ),
        DestinationProfile(
            "assessment", "scores", settings.assessment_url is not None, settings.assessment_rate
        ),
        *of_steps,
        DestinationProfile(MAIL_GATE, "mail", settings.smtp_url is not None, _MAIL_RATE),
    ]


def build_directory(
    settings: Settings, db: Database, client: httpx.AsyncClient
) -> LearnerDirectory:
    """Return the configured directory, else the built-in one."""
    if settings.directory_url is None:
        return BuiltInLearnerDirectory(db)
    token = bearer_auth_header(secret_text(settings.directory_token))
    return HttpLearnerDirectory(
        Partner(
            client,
            "the directory",
            settings.directory_url,
            authorization=token,
            gate=PartnerGate(db, "directory"),
        )
    )


def build_assessment(
    settings: Settings, db: Database, client: httpx.AsyncClient
) -> HttpScoreLookup | CourseScoreLookup:
    """Return the configured assessment service, else the course's own scores."""
    if settings.assessment_url is None:
        return CourseScoreLookup()
    token = bearer_auth_header(secret_text(settings.assessment_token))
    return HttpScoreLookup(
        Partner(
            client,
            "the assessment service",
            settings.assessment_url,
            authorization=token,
            gate=PartnerGate(db, "assessment"),
        )
    )


def build_credly_issuer(
    settings: Settings, db: Database, client: httpx.AsyncClient
) -> CredlyIssuer | None:
    """Return the Credly client, or None where one of its settings is missing."""
    url, organization = settings.credly_url, settings.credly_organization
    token = secret_text(settings.credly_token)
    if url is None or organization is None or token is None:
        return None
    gate = PartnerGate(db, "credly", credly_key(settings))
    return CredlyIssuer(client, url, organization, token, gate=gate)


def issuer_profile(settings: Settings) -> IssuerProfile:
    """Return the school as credentials name it."""
    base_url = public_url(settings)
    return IssuerProfile(
        base_url,
        settings.issuer_name or urlsplit(base_url).hostname or "Homeroom",
        settings.issuer_url,
        None if settings.issuer_email is None else parseaddr(settings.issuer_email)[1],
    )


def build_badge_issuer(settings: Settings, db: Database) -> OpenBadgeIssuer:
    """Return this installation as an issuer.

    It exists beside Credly too: what was signed here before keeps its page, keys and status.
    Raises ``ConfigurationError`` for a bad key file.
    """
    shown: set[Evidence] = set()
    if settings.credential_shows_hours:
        shown.add("hours")
    if settings.credential_shows_score:
        shown.add("score")
    key = None
    if settings.credential_key_file is not None:
        try:
            key = read_key_file(settings.credential_key_file.read_bytes())
        except OSError as error:
            raise ConfigurationError(
                f"HOMEROOM_CREDENTIAL_KEY_FILE cannot be read: {error.strerror}.",
                hint="Name a file that this process can read, or unset it.",
            ) from error
    return OpenBadgeIssuer(
        db,
        issuer_profile(settings),
        evidence=frozenset(shown),
        file_key=key,
        allows_http=settings.credential_allow_http,
    )


def certificate_style(settings: Settings) -> CertificateStyle:
    """Return the school's own look of certificates and badges."""
    return CertificateStyle(
        colour=settings.issuer_colour,
        logo=settings.issuer_logo,
        signature=settings.issuer_signature,
        signatory=settings.issuer_signatory,
        fonts=settings.issuer_fonts,
    )


def print_style(settings: Settings) -> PrintStyle:
    """Return the school's look of printed lesson plans."""
    return PrintStyle(
        school=settings.issuer_name or settings.school_name,
        logo=settings.issuer_logo,
        colour=settings.issuer_colour,
        fonts=settings.issuer_fonts,
    )


def missing_credly_setting(settings: Settings) -> str:
    """Return the first setting of Credly that is missing."""
    for name in ("credly_url", "credly_organization", "credly_token"):
        if getattr(settings, name) is None:
            return f"HOMEROOM_{name.upper()} is not set"
    return "HOMEROOM_CREDLY_URL is not set"


def build_xapi_config(settings: Settings, db: Database, client: httpx.AsyncClient) -> XapiConfig:
    """Return the learning record store of the settings."""
    store = None
    if settings.xapi_url is not None:
        key, _, secret = (secret_text(settings.xapi_login) or "").partition(":")
        store = Partner(
            client,
            "the learning record store",
            settings.xapi_url,
            authorization=basic_auth_header(key, secret) if key else None,
            secrets=(secret,),
            gate=PartnerGate(db, "xapi"),
        )
    return XapiConfig(
        store, public_url(settings), FixedDelays(settings.xapi_retry_delays), settings.xapi_rate
    )


def build_destination(
    client: httpx.AsyncClient,
    settings: Settings,
    db: Database,
    name: str,
    title: str,
    url: str | None,
) -> Destination | None:
    """Return a webhook's destination, or None without its URL or a signing secret."""
    secrets = settings.webhook_secrets(name)
    if url is None or not secrets:
        return None
    return Destination(client, name, title, url, secrets, gate=PartnerGate(db, name))


def missing_webhook_settings(settings: Settings) -> dict[str, str]:
    """Return the destinations that have a URL but no signing secret, with the reason."""
    urls = {"analytics": settings.analytics_url, "hr": settings.hr_url}
    return {
        name: "HOMEROOM_WEBHOOK_SECRET is not set"
        for name, url in urls.items()
        if url and not settings.webhook_secrets(name)
    }


def build_generator(settings: Settings, db: Database) -> LessonGenerator:
    """Return the configured language model, else the rule-based generator.

    Raises ``ConfigurationError`` where the packages of the extra ``llm`` are not installed.
    """
    if settings.llm_model is None:
        return RuleBasedGenerator()
    config = ModelConfig(
        kind=settings.llm_kind,
        model=settings.llm_model,
        url=settings.llm_url,
        key=secret_text(settings.llm_api_key),
        output=settings.llm_output,
        max_tokens=settings.llm_max_tokens,
        timeout=settings.llm_timeout,
        limits=ModelLimits(
            settings.llm_requests_per_minute,
            settings.llm_tokens_per_minute,
            _to_micro_units(settings.llm_budget),
        ),
        currency=settings.llm_currency,
        input_price=_to_micro_units(settings.llm_price_input),
        output_price=_to_micro_units(settings.llm_price_output),
    )
    try:
        # The optional extra takes a second to load, so only users of a model load it.
        module = importlib.import_module("homeroom.lessonplans.model.generator")
    except ImportError as error:
        raise ConfigurationError(
            f"HOMEROOM_LLM_MODEL is set, but a package for it is missing: {error.name}.",
            hint="Install it with: pip install 'homeroom[llm]'",
        ) from error
    generator: LessonGenerator = module.ModelGenerator(db, config)
    return generator


def llm_retry_policy(settings: Settings) -> LessonRetryPolicy:
    """Return number and delays of the retries of a failed module."""
    delay = settings.llm_retry_delay
    cap = max(delay, timedelta(minutes=30))
    return LessonRetryPolicy(settings.llm_retries, Backoff(base=delay, cap=cap))


def _to_micro_units(money: float | None) -> int | None:
    return None if money is None else round(money * 1_000_000)


def _build_mail_sender(settings: Settings) -> ChannelSender:
    url = secret_text(settings.smtp_url)
    if url is None or settings.mail_from is None:
        missing = "SMTP_URL" if url is None else "MAIL_FROM"
        return DisabledSender(f"HOMEROOM_{missing} is not set")
    sender = MailIdentity(settings.mail_from, settings.mail_reply_to, settings.mail_return_path)
    return SmtpSender(
        parse_smtp_url(url),
        sender,
        SmtpSessionOptions(ehlo_name=settings.ehlo_name),
        connections=settings.smtp_connections,
    )


def _build_apprise_sender(name: str, url: str | None) -> ChannelSender:
    return DisabledSender(f"{name} is not set") if url is None else AppriseSender(name, url)


def build_templates(settings: Settings) -> MessageTemplates:
    """Return the templates of messages, with the school as their sender.

    Raises ``ConfigurationError`` for a logo or a file of a programme that cannot be read.
    """
    sender = "Homeroom" if settings.mail_from is None else MailIdentity(settings.mail_from).name
    school = School(
        settings.school_name or sender,
        settings.school_address,
        settings.school_colour,
        logo=_read_inline_logo(settings.school_logo),
        programme_link=settings.programme_link
        or _console_link(settings, "/programmes/{programme}?week={week}"),
        facilitator_link=settings.facilitator_link,
        log_link=_console_link(settings, "/logs?programme={programme}&week={week}"),
    )
    programmes = {
        folder.programme_id: _build_school(school, folder)
        for folder in list_programme_folders(settings.template_dir)
    }
    return MessageTemplates(settings.template_dir, school=school, programmes=programmes)


def _console_link(settings: Settings, page: str) -> str | None:
    """Return the address of a page of the console; None without a public URL."""
    return None if settings.public_url is None else f"{settings.public_url}/console{page}"


def _build_school(school: School, folder: ProgrammeFolder) -> School:
    """Return the school as one programme shows it."""
    given = folder.read_school().model_dump(exclude_none=True)
    logo = _read_inline_logo(folder.find_logo()) or school.logo
    return replace(school, **given, logo=logo, templates=folder.path)


def _read_inline_logo(file: Path | None) -> InlineImage | None:
    return None if file is None else InlineImage(LOGO_CONTENT_ID, *read_logo(file))


def build_notifications(settings: Settings, db: Database, metrics: Metrics) -> Notifications:
    """Return the notifications; raise ``ConfigurationError`` for an invalid channel."""
    return Notifications(
        db,
        channel_senders={
            Channel.EMAIL: _build_mail_sender(settings),
            Channel.SMS: _build_apprise_sender("HOMEROOM_SMS_URL", secret_text(settings.sms_url)),
            Channel.CHAT: _build_apprise_sender(
                "HOMEROOM_CHAT_URL", secret_text(settings.chat_url)
            ),
        },
        templates=build_templates(settings),
        public_url=public_url(settings),
        text_retention=settings.notification_retention,
        observe=metrics.count_deliveries,
        observe_notices=metrics.count_mail_notices,
        observe_duration=metrics.observe_delivery,
        mails_per_minute=settings.smtp_mails_per_minute,
    )
