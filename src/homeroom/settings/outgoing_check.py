"""Problems of the settings of partners, credentials, and messages to people."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from pathlib import Path
from urllib.parse import urlsplit

from homeroom.errors import ConfigurationError
from homeroom.settings.model import Settings
from homeroom.settings.problem import SettingProblem
from homeroom.settings.school_files import read_logo, school_file_problems

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".svg"})
MAX_IMAGE_BYTES = 1024 * 1024
MAX_WEBHOOK_SECRETS = 2
"""Secrets that sign one message: the old one and its successor."""
_SNS_TOPIC = re.compile(r"arn:aws(?:-[a-z]+)*:sns:[a-z0-9-]+:\d{12}:[\w-]{1,256}")
_MIN_POSTMARK_PASSWORD = 16
_PEM_KEY = re.compile(rb"-----BEGIN PRIVATE KEY-----\s(.+?)-----END PRIVATE KEY-----", re.DOTALL)
_ED25519_OID = bytes.fromhex("06032b6570")
_ELLIPTIC_KEY_OID = bytes.fromhex("06072a8648ce3d0201")


def partner_problems(settings: Settings) -> list[SettingProblem]:
    """Return the problems of the settings of the partner systems."""
    problems = []
    for field in ("webhook_secret", "analytics_webhook_secret", "hr_webhook_secret"):
        secret = getattr(settings, field)
        if secret is not None and not _are_webhook_secrets(secret.get_secret_value()):
            problems.append(
                SettingProblem(
                    f"HOMEROOM_{field.upper()}",
                    "Not a Standard Webhooks secret: `whsec_` and base64 of 24 to 64 bytes;"
                    " two at most, with a space between them.",
                    'Make one with: echo "whsec_$(openssl rand -base64 32)"',
                )
            )
    for name, url in (("ANALYTICS", settings.analytics_url), ("HR", settings.hr_url)):
        if url and not settings.webhook_secrets(name.lower()):
            problems.append(
                SettingProblem(
                    "HOMEROOM_WEBHOOK_SECRET",
                    f"HOMEROOM_{name}_URL is set, but the secret that signs webhooks is not.",
                    'Make one with: echo "whsec_$(openssl rand -base64 32)"',
                )
            )
    login = settings.xapi_login
    if login is not None and not all(login.get_secret_value().partition(":")):
        problems.append(
            SettingProblem(
                "HOMEROOM_XAPI_LOGIN",
                "It is no key and secret with a colon between them.",
                "Copy both from the learning record store, as key:secret.",
            )
        )
    if settings.credly_url:
        for name in ("organization", "token"):
            if not getattr(settings, f"credly_{name}"):
                problems.append(
                    SettingProblem(
                        f"HOMEROOM_CREDLY_{name.upper()}",
                        f"HOMEROOM_CREDLY_URL is set, but no {name}.",
                        "Set both from Credly's developer page, or unset the URL.",
                    )
                )
    for name, key in (("directory", "token"), ("assessment", "token"), ("xapi", "login")):
        if getattr(settings, f"{name}_{key}") and not getattr(settings, f"{name}_url"):
            problems.append(
                SettingProblem(
                    f"HOMEROOM_{name.upper()}_{key.upper()}",
                    f"A {key} is set, but HOMEROOM_{name.upper()}_URL is not.",
                    f"Set the URL, or unset the {key}.",
                    "warning",
                )
            )
    return problems


def credential_problems(settings: Settings) -> list[SettingProblem]:
    """Return the problems of the settings of the credentials that are signed here."""
    problems = []
    for name in ("credential_key_file", "issuer_logo", "issuer_signature"):
        file = getattr(settings, name)
        if file is not None and not file.is_file():
            problems.append(
                SettingProblem(
                    f"HOMEROOM_{name.upper()}",
                    f"There is no file {file}.",
                    "Name a file that this process can read, or unset it.",
                )
            )
    key_file = settings.credential_key_file
    if key_file is not None and key_file.is_file() and not _is_signing_key(key_file):
        problems.append(
            SettingProblem(
                "HOMEROOM_CREDENTIAL_KEY_FILE",
                f"{key_file} holds no readable Ed25519 private key in PEM form.",
                "Make one with: openssl genpkey -algorithm ed25519",
            )
        )
    for name in ("issuer_logo", "issuer_signature"):
        file = getattr(settings, name)
        if file is None or not file.is_file():
            continue
        is_image = file.suffix.lower() in IMAGE_SUFFIXES
        if not is_image or file.stat().st_size > MAX_IMAGE_BYTES:
            problems.append(
                SettingProblem(
                    f"HOMEROOM_{name.upper()}",
                    f"{file} is no PNG, JPEG or SVG file of 1 MiB at most.",
                    "Convert it, or make it smaller.",
                )
            )
    if settings.issuer_fonts is not None and not settings.issuer_fonts.is_dir():
        problems.append(
            SettingProblem(
                "HOMEROOM_ISSUER_FONTS",
                f"There is no folder {settings.issuer_fonts}.",
                "Make it, or unset it.",
            )
        )
    if settings.credential_allow_http and not settings.is_loopback:
        problems.append(
            SettingProblem(
                "HOMEROOM_CREDENTIAL_ALLOW_HTTP",
                "Credentials would name an address that is not https as long as they exist.",
                "Unset it, and set HOMEROOM_PUBLIC_URL to an https address.",
            )
        )
    return problems


def _is_signing_key(file: Path) -> bool:
    """Return whether a file looks like the key that ``credentials`` reads at a start.

    The package cryptography would read it fully, and costs each command its import.
    """
    try:
        found = _PEM_KEY.search(file.read_bytes())
        return found is not None and _ED25519_OID in b64decode(b"".join(found[1].split()))
    except (OSError, ValueError):
        return False


def message_problems(settings: Settings) -> list[SettingProblem]:
    """Return the problems of the settings of messages to people."""
    problems = []
    if settings.smtp_url is not None and settings.mail_from is None:
        problems.append(
            SettingProblem(
                "HOMEROOM_MAIL_FROM",
                "HOMEROOM_SMTP_URL is set, but the sender of mails is not.",
                "Set it, such as to: Homeroom <homeroom@example.org>",
            )
        )
    if settings.smtp_url is not None and settings.public_url is None:
        problems.append(
            SettingProblem(
                "HOMEROOM_PUBLIC_URL",
                f"Links in mails point to http://{settings.host}:{settings.port}, which their"
                " readers cannot reach.",
                "Set it to the address by which people reach Homeroom, such as"
                " https://homeroom.example.org.",
                "warning",
            )
        )
    elif settings.smtp_url is not None and _is_loopback_name(settings.ehlo_name):
        problems.append(
            SettingProblem(
                "HOMEROOM_SMTP_EHLO_NAME",
                f"Homeroom greets mail servers as {settings.ehlo_name}, which many refuse.",
                "Set it to the name of this machine in the DNS, such as homeroom.example.org.",
                "warning",
            )
        )
    if settings.smtp_url is not None:
        parts = urlsplit(settings.smtp_url.get_secret_value())
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
            problems.append(
                SettingProblem(
                    "HOMEROOM_SMTP_URL",
                    "It is not the address of a mail server.",
                    "Write smtp://user:password@mail.example.org:587 or smtps://mail.example.org.",
                )
            )
        local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        if "tls=none" in parts.query and not local:
            problems.append(
                SettingProblem(
                    "HOMEROOM_SMTP_URL",
                    "Mails, and the password if there is one, are sent unencrypted.",
                    "Leave out tls=none; smtp:// then asks the server for STARTTLS.",
                    "error" if parts.password else "warning",
                )
            )
    secret = settings.email_hook_secret
    if secret is not None and not _is_webhook_secret(secret.get_secret_value()):
        problems.append(
            SettingProblem(
                "HOMEROOM_EMAIL_HOOK_SECRET",
                "Not a Standard Webhooks secret: `whsec_` and base64 of 24 to 64 bytes.",
                'Make one with: echo "whsec_$(openssl rand -base64 32)"',
            )
        )
    problems += _email_hook_problems(settings)
    if settings.template_dir is not None and not settings.template_dir.is_dir():
        problems.append(
            SettingProblem(
                "HOMEROOM_TEMPLATE_DIR",
                f"There is no folder {settings.template_dir}.",
                "Make it, or unset it to use the built-in templates.",
            )
        )
    problems += school_file_problems(settings.template_dir)
    if settings.school_logo is not None:
        try:
            read_logo(settings.school_logo)
        except ConfigurationError as error:
            problems.append(
                SettingProblem(
                    "HOMEROOM_SCHOOL_LOGO", error.message, "Convert it, or make it smaller."
                )
            )
    return problems


def _is_loopback_name(ehlo_name: str) -> bool:
    """Return whether a name in EHLO is that of any machine: localhost or 127.0.0.1."""
    name = ehlo_name.strip("[]").removeprefix("IPv6:").lower()
    return name == "::1" or name.startswith("127.") or name.split(".")[0] == "localhost"


def _email_hook_problems(settings: Settings) -> list[SettingProblem]:
    problems = []
    topic = settings.email_hook_ses_topic
    if topic is not None and _SNS_TOPIC.fullmatch(topic) is None:
        problems.append(
            SettingProblem(
                "HOMEROOM_EMAIL_HOOK_SES_TOPIC",
                "It is not the ARN of an SNS topic.",
                "Write it as arn:aws:sns:eu-west-1:123456789012:bounces.",
            )
        )
    key = settings.email_hook_sendgrid_key
    if key is not None and not _is_elliptic_key(key):
        problems.append(
            SettingProblem(
                "HOMEROOM_EMAIL_HOOK_SENDGRID_KEY",
                "It is not a verification key of SendGrid.",
                "Copy it from the settings of the event webhook: base64, without a header.",
            )
        )
    login = settings.email_hook_postmark_login
    if login is not None:
        user, _, password = login.get_secret_value().partition(":")
        if not user or len(password) < _MIN_POSTMARK_PASSWORD:
            problems.append(
                SettingProblem(
                    "HOMEROOM_EMAIL_HOOK_POSTMARK_LOGIN",
                    "It is not user:password with a password of at least 16 characters.",
                    "Make a password with: openssl rand -hex 16",
                )
            )
    return problems


def _is_elliptic_key(text: str) -> bool:
    """Return whether a text is a public key; reading it in full would load a library."""
    try:
        return _ELLIPTIC_KEY_OID in b64decode(text, validate=True)
    except binascii.Error:
        return False


def _are_webhook_secrets(text: str) -> bool:
    """Return whether a text is one secret, or two with white space between them."""
    secrets = text.split()
    return 1 <= len(secrets) <= MAX_WEBHOOK_SECRETS and all(map(_is_webhook_secret, secrets))


def _is_webhook_secret(secret: str) -> bool:
    """Return whether a secret has the form and length of Standard Webhooks."""
    if not secret.startswith("whsec_"):
        return False
    encoded = secret.removeprefix("whsec_")
    try:
        key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        return False
    return 24 <= len(key) <= 64
