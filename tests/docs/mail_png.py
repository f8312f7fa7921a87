"""Picture mails at the width of a phone: ``python -m tests.docs.mail_png chromium docs``.

Writes ``mail.png``, mails to facilitators and managers, and ``learner-mail.png``.

They go through a real conversation into the sandbox's mail server, and are shown from there.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from homeroom.notify.api import (
    EXAMPLE_PARAMS,
    Channel,
    DeliveryStatus,
    MailIdentity,
    MessageTemplates,
    OutgoingMessage,
    SmtpProgress,
    SmtpSender,
    parse_smtp_url,
)

PICTURES = {
    "mail.png": ("log_reminder", "manager_report"),
    "learner-mail.png": ("credential_issued", "credential_expiring"),
}
WIDTH, HEIGHT, GAP = 390, 680, 24
STOP = "https://homeroom.example.org/u/token"


async def send(environment: dict[str, str], types: tuple[str, ...]) -> None:
    """Send an example of each type."""
    sender = MailIdentity(environment["HOMEROOM_MAIL_FROM"])
    channel_sender = SmtpSender(parse_smtp_url(environment["HOMEROOM_SMTP_URL"]), sender)
    for type in types:
        words = MessageTemplates().render(
            type,
            EXAMPLE_PARAMS[type],
            locale="en-GB",
            given_name="Ada",
            unsubscribe_url=STOP,
        )
        letter = OutgoingMessage(type, Channel.EMAIL, "ada@example.org", words, STOP)
        verdict = await channel_sender.send(letter, SmtpProgress())
        if verdict.status is not DeliveryStatus.ACCEPTED:
            raise RuntimeError(verdict.error)


def picture(browser: str, target: Path, types: tuple[str, ...]) -> None:
    """Send, show side by side, and write the picture."""
    sandbox = subprocess.Popen(
        [sys.executable, "-m", "homeroom.sandbox", "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert sandbox.stdin is not None
    assert sandbox.stdout is not None
    said = json.loads(sandbox.stdout.readline())
    asyncio.run(send(said["environment"], types))
    style = f"border:0;width:{WIDTH}px;height:{HEIGHT}px;margin-right:{GAP}px"
    frames = "".join(
        f'<iframe src="{said["url"]}/control/mail/{number}" style="{style}"></iframe>'
        for number in range(1, len(types) + 1)
    )
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "mails.html"
        body = f'<body style="margin:0;background:#fff;white-space:nowrap">{frames}</body>'
        page.write_text(f"<!doctype html><html>{body}</html>", encoding="utf-8")
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
                "--virtual-time-budget=4000",
                f"--window-size={len(types) * WIDTH + GAP},{HEIGHT}",
                f"--screenshot={target.resolve()}",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    sandbox.stdin.close()
    sandbox.wait()


if __name__ == "__main__":
    for name, types in PICTURES.items():
        picture(sys.argv[1], Path(sys.argv[2]) / name, types)
