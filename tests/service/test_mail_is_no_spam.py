"""Every type of mail under the offline rules of SpamAssassin."""

from __future__ import annotations

import pytest
from tests.docs.mail_png import school
from tests.support.missing_server import skip_or_fail
from tools.servers import spamassassin
from tools.servers.debian import Missing

from homeroom.clock import Clock
from homeroom.notify.api import (
    EXAMPLE_PARAMS,
    Channel,
    MailIdentity,
    MessageTemplates,
    OutgoingMessage,
    get_message_type,
    list_languages,
)
from homeroom.notify.mail import compose_mail

pytestmark = pytest.mark.service
MOST_POINTS = 1.5
SENDER = MailIdentity("Lernhaus <homeroom@lernhaus-mitte.de>")
# As it arrives at a recipient's server: from a relay with a proper name and a public address. (An
# address of the documentation's range alone costs 1.3 points.)
RECEIVED = (
    "Received: from mail.lernhaus-mitte.de (mail.lernhaus-mitte.de [85.214.132.117])\r\n"
    "\tby mx.posteo.de (Postfix) with ESMTPS id 4Xy1Zt2h3Kz9rxD\r\n"
    "\tfor <ada@posteo.de>; {date}\r\n"
)


def test_every_type_has_at_most_one_and_a_half_points() -> None:
    with_logo = MessageTemplates(school=school())
    plain = MessageTemplates(None, "Lernhaus Mitte", "Hauptstr. 1, 10115 Berlin")
    looks = [(f"{each} with a logo", each, with_logo) for each in list_languages()]
    looks.append(("en", "en", plain))
    now = Clock().now()
    names, mails = [], []
    for look, language, templates in looks:
        for type, params in EXAMPLE_PARAMS.items():
            mandatory = get_message_type(type).mandatory
            url = None if mandatory else f"https://homeroom.lernhaus-mitte.de/u/{'aZ3_' * 20}"
            rendered = templates.render(
                type, params, locale=language, given_name="Ada", unsubscribe_url=url
            )
            message = OutgoingMessage(
                "01a22adb-f691-7589-86c2-3b69cb7fffd1",
                Channel.EMAIL,
                "ada@posteo.de",
                rendered,
                url,
                type,
            )
            raw = compose_mail(message, SENDER, now)
            date = raw.split(b"\r\nDate: ")[1].split(b"\r\n")[0].decode()
            names.append(f"{type} ({look})")
            mails.append(RECEIVED.format(date=date).encode() + raw)
    try:
        scores = spamassassin.score(mails)
    except Missing as missing:
        skip_or_fail(missing)
    found = dict(zip(names, scores, strict=True))
    assert {name: each for name, each in found.items() if each[0] > MOST_POINTS} == {}
    # The rules did run: they see the HTML.
    assert all("HTML_MESSAGE" in rules for _, rules in scores)
