"""The settings of partner systems and of the credentials that are signed here."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, SecretStr

from homeroom.settings.field_types import (
    ClassNames,
    Delays,
    HexColour,
    HttpUrl,
    Mailbox,
    Rate,
)

RETRY_DELAYS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
)
DEFAULT_RATE = 10.0
_DELAYS = "Waits before the retries of a step at {}, each 20 % longer or shorter at random."
_RATE = "Waiting jobs for {} that start per second at most, once it is back."


class PartnerSettings(BaseModel):
    """Partners. An unset one is a step `skipped`, never reported as done."""

    enable_credentials: bool = Field(
        True, validation_alias="ENABLE_CREDENTIALS", description="Issue credentials."
    )
    directory_url: HttpUrl | None = Field(
        None,
        description="Directory of people's addresses. Unset: the built-in directory.",
    )
    directory_token: SecretStr | None = Field(None, description="Bearer token of the directory.")
    directory_rate: Rate = Field(DEFAULT_RATE, description=_RATE.format("the directory"))
    assessment_url: HttpUrl | None = Field(
        None,
        description="URL of the scores for credentials. Unset: the course's own quiz scores.",
    )
    assessment_token: SecretStr | None = Field(None, description="Bearer token of the assessment.")
    assessment_rate: Rate = Field(DEFAULT_RATE, description=_RATE.format("the assessment"))
    credly_url: HttpUrl | None = Field(
        None, description="Credly's API, such as `https://api.credly.com/v1`."
    )
    credly_organization: str | None = Field(None, description="The organization's id at Credly.")
    credly_token: SecretStr | None = Field(None, description="API token of Credly.")
    credly_token_expires_on: date | None = Field(
        None,
        description="Day on which the token expires, such as `2027-03-01`. Unset: 180 days after"
        " its first use here, which is the latest possible day.",
    )
    credly_retry_delays: Delays = Field(RETRY_DELAYS, description=_DELAYS.format("Credly"))
    credly_rate: Rate = Field(DEFAULT_RATE, description=_RATE.format("Credly"))
    analytics_url: HttpUrl | None = Field(None, description="Webhook for completed courses.")
    analytics_retry_delays: Delays = Field(RETRY_DELAYS, description=_DELAYS.format("analytics"))
    analytics_rate: Rate = Field(DEFAULT_RATE, description=_RATE.format("analytics"))
    xapi_url: HttpUrl | None = Field(
        None,
        description="Learning record store that gets xAPI statements: the URL above `/statements`."
        " Unset: completions have no step for it.",
    )
    xapi_login: SecretStr | None = Field(
        None, description="Login of the learning record store, as `key:secret`."
    )
    xapi_retry_delays: Delays = Field(RETRY_DELAYS, description=_DELAYS.format("the record store"))
    xapi_rate: Rate = Field(DEFAULT_RATE, description=_RATE.format("the record store"))
    hr_url: HttpUrl | None = Field(None, description="Webhook for training records.")
    hr_retry_delays: Delays = Field(RETRY_DELAYS, description=_DELAYS.format("HR"))
    hr_rate: Rate = Field(DEFAULT_RATE, description=_RATE.format("HR"))
    webhook_secret: SecretStr | None = Field(
        None,
        description="Signs webhooks: `whsec_` and base64 of 24 to 64 bytes. Two, with a space"
        " between them, sign both until every receiver has the new one.",
    )
    analytics_webhook_secret: SecretStr | None = Field(
        None, description="Signs webhooks to analytics, in place of `HOMEROOM_WEBHOOK_SECRET`."
    )
    hr_webhook_secret: SecretStr | None = Field(
        None, description="Signs webhooks to HR, in place of `HOMEROOM_WEBHOOK_SECRET`."
    )

    def webhook_secrets(self, destination: str) -> tuple[str, ...]:
        """Return the secrets that sign messages to `analytics` or `hr`."""
        own: SecretStr | None = getattr(self, f"{destination}_webhook_secret")
        secret = own or self.webhook_secret
        return () if secret is None else tuple(secret.get_secret_value().split())

    steps: ClassNames = Field(
        (),
        description="Further steps of completions as `module:Class`, separated by commas. Those of"
        " installed packages are found by their entry points.",
    )

    @property
    def uses_credly(self) -> bool:
        """Return whether a setting of Credly is set: it issues what has a template."""
        given = (self.credly_url, self.credly_organization, self.credly_token)
        return any(value is not None for value in given)


class CredentialSettings(BaseModel):
    """Credentials signed here. They are issued where no setting of Credly is set."""

    credential_key_file: Path | None = Field(
        None,
        description="Ed25519 private key (PEM) that signs credentials. Unset: one that is made once"
        " and kept in the database.",
    )
    credential_shows_hours: bool = Field(
        False, description="Credentials state the time that the learner spent in the course."
    )
    credential_shows_score: bool = Field(
        False, description="Credentials state the learner's score, if there is one."
    )
    credential_without_template: Literal["skip", "sign"] = Field(
        "skip",
        description="With Credly, what a course without `badgeTemplateId` gets: `skip` skips the"
        " step, `sign` signs a credential here.",
    )
    credential_allow_http: bool = Field(
        False,
        description="Issue credentials without an `https` public URL; for the demo and tests only.",
    )
    issuer_name: str | None = Field(
        None, min_length=1, max_length=100, description="Name of the school. Unset: its host."
    )
    issuer_url: HttpUrl | None = Field(None, description="The school's own web site.")
    issuer_email: Mailbox | None = Field(
        None, description="Address for questions about credentials; it is published."
    )
    issuer_logo: Path | None = Field(
        None,
        description="PNG, JPEG or SVG file of the logo on certificates and lesson plans, of 1 MiB"
        " at most.",
    )
    issuer_colour: HexColour = Field(
        "#1f4e79",
        description="Colour of badges, certificates and lesson plans; white text has to be readable"
        " on it.",
    )
    issuer_signature: Path | None = Field(
        None, description="PNG, JPEG or SVG file of a signature on certificates, of 1 MiB at most."
    )
    issuer_fonts: Path | None = Field(
        None,
        description="Folder of further fonts for certificates and lesson plans. Those of Homeroom"
        " know Latin, Greek, Cyrillic, Arabic and Devanagari.",
    )
    issuer_signatory: str | None = Field(
        None, max_length=100, description="Name and office below the signature."
    )
