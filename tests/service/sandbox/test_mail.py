"""The sandbox's mail server: keeps mails, says what is wrong with them, and fails on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage

import aiosmtplib
import httpx
import pytest

from homeroom.sandbox.server import environment, serve
from homeroom.sandbox.state import SandboxConfig

pytestmark = [pytest.mark.anyio, pytest.mark.service]


@asynccontextmanager
async def sandbox() -> AsyncIterator[tuple[httpx.AsyncClient, int]]:
    ports: asyncio.Queue[int] = asyncio.Queue()
    stop = asyncio.Event()
    task = asyncio.create_task(
        serve(
            SandboxConfig(),
            started=ports.put_nowait,
            mail_started=ports.put_nowait,
            stop=stop,
        )
    )
    mail_port, port = await ports.get(), await ports.get()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        yield client, mail_port
    stop.set()
    await asyncio.wait_for(task, 10)


def a_mail(**headers: str) -> EmailMessage:
    mail = EmailMessage()
    given = {
        "From": "Homeroom <homeroom@example.org>",
        "To": "ada@example.org",
        "Subject": "Hello",
        "Date": "Mon, 23 Nov 2026 09:00:00 +0100",
        "Message-ID": "<1@example.org>",
        "List-Unsubscribe": "<https://example.org/u/t>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        **headers,
    }
    for name, value in given.items():
        if value:
            mail[name] = value
    mail.set_content("text")
    mail.add_alternative("<p>html</p>", subtype="html")
    return mail


async def post(mail: EmailMessage, port: int) -> None:
    await aiosmtplib.send(mail, hostname="127.0.0.1", port=port, start_tls=False)


async def test_a_good_mail_is_kept_and_shown_without_running_anything() -> None:
    async with sandbox() as (client, port):
        await post(a_mail(), port)
        [kept] = (await client.get("/control/mail?to=ada@example.org")).json()["items"]
        assert (kept["subject"], kept["text"].strip(), kept["problems"]) == ("Hello", "text", [])
        listed = await client.get("/control/mailbox")
        assert "ada@example.org" in listed.text
        assert 'href="/control/mail/1"' in listed.text
        shown = await client.get("/control/mail/1")
        assert "<p>html</p>" in shown.text
        assert "sandbox" in shown.headers["content-security-policy"]
        assert (await client.get("/control/mail/2")).status_code == 404
        summary = (await client.get("/control/summary")).json()["mail"]
        assert (summary["accepted"], summary["faulty"], summary["repeated"]) == (1, 0, {})


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Message-ID": ""}, "Message-ID"),
        ({"List-Unsubscribe-Post": ""}, "RFC 8058"),
        ({"List-Unsubscribe": f"<https://example.org/{'t' * 80}>"}, "does not begin with a link"),
        ({"To": "ada@example.org, ben@example.org"}, "recipient"),
    ],
)
async def test_what_is_wrong_with_a_mail_is_said(headers: dict[str, str], told: str) -> None:
    async with sandbox() as (client, port):
        await post(a_mail(**headers), port)
        [kept] = (await client.get("/control/mail")).json()["items"]
        assert told in kept["problems"][0]


async def test_it_refuses_and_cuts_as_it_is_told() -> None:
    async with sandbox() as (client, port):
        fault = {"at": "rcpt", "answer": "550 5.1.1 no", "times": 1, "to": "ada@example.org"}
        assert (await client.post("/control/mail/faults", json=fault)).status_code == 200
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
            await post(a_mail(), port)
        await client.post("/control/mail/faults", json={"at": "end", "answer": "cut", "times": 1})
        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            await post(a_mail(), port)
        await post(a_mail(), port)
        summary = (await client.get("/control/summary")).json()["mail"]
        assert (summary["accepted"], summary["refused"]) == (2, 2)
        assert summary["repeated"] == {"<1@example.org>": 2}
        wrong = await client.post("/control/mail/faults", json={"at": "lunch"})
        assert wrong.status_code == 422
        await client.post("/control/reset")
        assert (await client.get("/control/mail")).json()["items"] == []


def test_the_settings_point_at_the_mail_server() -> None:
    found = environment("http://127.0.0.1:8430", SandboxConfig(), 2525)
    assert found["HOMEROOM_SMTP_URL"] == "smtp://127.0.0.1:2525?tls=none"
