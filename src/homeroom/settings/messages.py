"""The settings of messages to people."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, Field, SecretStr

from homeroom.settings.field_types import (
    HexColour,
    LinkTemplate,
    Mailbox,
    Mailboxes,
    MailHostName,
    OneLine,
    Retention,
)


class MessageSettings(BaseModel):
    """Messages to people. The inbox needs no setting; an unset channel is `skipped`."""

    smtp_url: SecretStr | None = Field(
        None,
        description="Mail server: `smtp://user:password@host:587` (STARTTLS) or `smtps://host`.",
    )
    mail_from: Mailbox | None = Field(
        None, description="Sender of mails, such as `Homeroom <homeroom@example.org>`."
    )
    mail_reply_to: Mailbox | None = Field(
        None, description="Address for replies to mails. Unset: the sender."
    )
    mail_return_path: Mailbox | None = Field(
        None,
        description="Address for bounces of mails. Unset: the sender. `{id}` in it, as in"
        " `bounces+{id}@example.org`, becomes the mail's id, so that every bounce is matched.",
    )
    smtp_ehlo_name: MailHostName | None = Field(
        None,
        description="Name in the EHLO to mail servers. Unset: the host of the public URL.",
    )
    operators: Mailboxes = Field(
        (),
        description="Mail addresses that get alerts, separated by commas. People of the directory"
        " with the role `operator` or `admin` get them in any case.",
    )
    smtp_connections: int = Field(
        10, ge=1, le=100, description="Connections to the mail server at once, of each process."
    )
    smtp_mails_per_minute: int | None = Field(
        None, ge=10, description="Mails a minute of all processes together. Unset: no limit."
    )
    learner_messages: bool = Field(
        True,
        description="Tell learners that a credential was issued, and that it expires soon.",
    )
    school_name: OneLine | None = Field(
        None, description="Name of the school in the footer of mails. Unset: the sender's."
    )
    school_address: OneLine | None = Field(
        None, description="Postal address of the school in the footer of mails, on one line."
    )
    school_colour: HexColour = Field(
        "#0b6b5d", description="Colour of mails: the line at their top, buttons and links."
    )
    school_logo: Path | None = Field(
        None,
        description="PNG, JPEG or GIF file of the logo in mails, of 100 KiB at most, which is shown"
        " 40 pixels high.",
    )
    programme_link: LinkTemplate | None = Field(
        None,
        description="Page of a programme to which reports link, with `{programme}` and `{week}` in"
        " it. Unset: the console's, if `HOMEROOM_PUBLIC_URL` is set.",
    )
    facilitator_link: LinkTemplate | None = Field(
        None,
        description="Page of one facilitator to which reports link, with `{user}` in it besides."
        " Unset: the page of the programme.",
    )
    email_hook_secret: SecretStr | None = Field(
        None,
        description="Verifies `POST /hooks/email/{provider}` of `events` and `dsn`: `whsec_` and"
        " base64.",
    )
    email_hook_ses_topic: str | None = Field(
        None,
        description="ARN of the SNS topic of Amazon SES whose messages the webhook `ses` accepts.",
    )
    email_hook_sendgrid_key: str | None = Field(
        None, description="SendGrid's verification key, for the webhook `sendgrid`."
    )
    email_hook_postmark_login: SecretStr | None = Field(
        None,
        description="User and password of the webhook `postmark`, as `user:password`; the same in"
        " Postmark's own.",
    )
    email_hook_mailgun_key: SecretStr | None = Field(
        None, description="Mailgun's signing key of webhooks, for the webhook `mailgun`."
    )
    sms_url: SecretStr | None = Field(
        None, description="Apprise URL of an SMS service, with `{address}` for the number."
    )
    chat_url: SecretStr | None = Field(
        None, description="Apprise URL of a chat service, with `{address}` for the name."
    )
    template_dir: Path | None = Field(
        None,
        description="Folder of templates that override the built-in ones;"
        " `programmes/{programmeId}` in it overrides them, and name, address, colour, logo and"
        " links, for one programme.",
    )
    notification_retention: Retention = Field(
        timedelta(days=180),
        description="Age at which message texts are deleted. Their keys stay at least 400 days.",
    )
