"""Judgement of replies of servers and providers, against a table that was written by hand."""

from __future__ import annotations

import pytest

from homeroom.notify.refusal import find_reply_code, find_status, judge_refusal

REPLIES = [
    # Postfix
    ("550 5.1.1 <ida@school.example>: Recipient address rejected: User unknown in local recipient"
     " table", "hard"),
    ("550 5.1.1 <ida@school.example>: Recipient address rejected: User unknown in relay recipient"
     " table", "hard"),
    ("550 5.1.1 <ida@school.example>: Recipient address rejected: User unknown in virtual mailbox"
     " table", "hard"),
    ("554 5.7.1 <relay.example[192.0.2.7]>: Client host rejected: Access denied", "session"),
    ("504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", "session"),
    ("550 5.7.1 <ida@school.example>: Helo command rejected: Host not found", "session"),
    ("554 5.7.1 <ida@school.example>: Relay access denied", "session"),
    ("550 5.1.8 <post@homeroom.example>: Sender address rejected: Domain not found", "session"),
    ("553 5.7.1 <post@homeroom.example>: Sender address rejected: not owned by user relay",
     "session"),
    ("554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org",
     "session"),
    ("450 4.2.0 <ida@school.example>: Recipient address rejected: Greylisted for 5 minutes",
     "session"),
    ("450 4.1.1 <ida@school.example>: Recipient address rejected: unverified address: Address"
     " verification in progress", "soft"),
    ("450 4.1.1 <ida@school.example>: Recipient address rejected: User unknown in local recipient"
     " table", "soft"),
    ("452 4.3.1 Insufficient system storage", "soft"),
    ("552 5.3.4 Message size exceeds fixed limit", "block"),
    ("554 5.4.6 Too many hops", "soft"),
    # Exim, also with cPanel
    ("550 Unrouteable address", "hard"),
    ("550 No Such User Here", "hard"),
    ("550-Verification failed for <post@homeroom.example> 550 Sender verify failed", "session"),
    ("550 relay not permitted", "session"),
    ("550 authentication required", "session"),
    ("mailbox is full: retry timeout exceeded", "soft"),
    # Sendmail, and relays that write 5.0.0
    ("550 5.1.1 <ida@school.example>... User unknown", "hard"),
    ("553 5.3.0 <ida@school.example>... No such user here", "hard"),
    ("550 5.7.1 <ida@school.example>... Relaying denied. Proper authentication required.",
     "session"),
    ("550 5.1.2 <ida@school.invalid>... Host unknown (Name server: school.invalid: host not"
     " found)", "hard"),
    ("5.0.0 smtp; 550 User unknown", "hard"),
    ("4.4.7 Operation timed out: message expired in the queue", "soft"),
    # qmail
    ("Sorry, no mailbox here by that name. (#5.1.1)", "hard"),
    ("Sorry, I couldn't find any host named school.invalid. (#5.1.2)", "hard"),
    ("553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "block"),
    ("user is over quota (#5.1.1)", "soft"),
    # Microsoft 365, Exchange, Outlook.com
    ("550 5.4.1 Recipient address rejected: Access denied. [AM6EUR05.prod.protection.outlook.com]",
     "hard"),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
     "hard"),
    ("550 5.4.310 DNS domain school.invalid does not exist", "hard"),
    ("554 5.2.2 mailbox full; STOREDRV.Deliver.Exception: QuotaExceededException", "soft"),
    ("550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required", "session"),
    ("550 5.7.606 Access denied, banned sending IP [192.0.2.7]", "session"),
    ("550 5.7.1 Unable to relay", "session"),
    ("550 5.7.511 Access denied, banned sender[192.0.2.7]", "block"),
    ("550 5.5.0 Requested action not taken: mailbox unavailable", "hard"),
    ("451 4.7.650 The mail server [192.0.2.7] has been temporarily rate limited due to IP"
     " reputation", "session"),
    # Gmail
    ("550-5.1.1 The email account that you tried to reach does not exist. Please check the"
     " address for typos", "hard"),
    ("550-5.2.1 The email account that you tried to reach is disabled", "hard"),
    ("552-5.2.2 The recipient's inbox is out of storage space", "soft"),
    ("450-4.2.1 The user you are trying to contact is receiving mail at a rate that prevents"
     " more", "soft"),
    ("550-5.7.26 This mail has been blocked because the sender is unauthenticated: SPF did not"
     " pass", "session"),
    ("550-5.7.1 Our system has detected that this message is likely unsolicited mail", "block"),
    ("550 5.4.5 Daily user sending limit exceeded", "session"),
    # Yahoo, AOL
    ("554 delivery error: dd This user doesn't have a yahoo.com account (ida@yahoo.example)",
     "hard"),
    ("554 delivery error: dd Not a valid recipient", "hard"),
    ("552 1 Requested mail action aborted, mailbox not found", "hard"),
    ("421 4.7.0 [TSS04] Messages from 192.0.2.7 temporarily deferred due to user complaints",
     "block"),
    # iCloud, GMX, T-Online, Zoho, Yandex, Mail.ru, OVH
    ("550 5.1.1 unknown or illegal alias: ida@icloud.example", "hard"),
    ("554 Transaction failed Reject due to policy restrictions", "block"),
    ("550 Requested action not taken: mailbox unavailable For explanation visit the postmaster",
     "hard"),
    ("554 IP=192.0.2.7 - A problem occurred. None/bad reputation. Ask your postmaster", "session"),
    ("554 5.1.1 Email address does not exist", "hard"),
    ("550 5.7.1 No such user!", "hard"),
    ("550 Message was not accepted -- invalid mailbox. Local mailbox is unavailable: user not"
     " found", "hard"),
    ("550 5.2.1 mailbox is disabled: account blocked for inactivity", "hard"),
    # Mimecast, Proofpoint, Barracuda, Amazon SES and WorkMail, Domino, SendGrid
    ("550 Rejected by header based manually blocked senders", "block"),
    ("550 Invalid Recipient - the address is not known here", "hard"),
    ("554 Blocked - see the checker of addresses, message from 192.0.2.7", "block"),
    ("550 permanent failure for one or more recipients (ida@school.example:blocked)", "block"),
    ("554 Message rejected: Email address is not verified in region eu-west-1", "block"),
    ("550 5.1.1 The recipient's account is not active", "hard"),
    ("554 Message rejected on suppression list of the account", "block"),
    ("550 User ida (ida@school.example) not listed in Domino Directory", "hard"),
    ("556 5.1.10 the domain has a null MX and accepts no mail", "hard"),
    # Plain codes
    ("5.1.1", "hard"),
    ("5.1.6", "hard"),
    ("5.1.7", "session"),
    ("5.2.0", "soft"),
    ("5.2.3", "block"),
    ("5.3.0", "block"),
    ("5.4.4", "hard"),
    ("5.4.7", "soft"),
    ("5.5.4", "block"),
    ("5.6.0", "block"),
    ("5.7.1", "block"),
    ("4.2.2", "soft"),
    ("4.1.1", "soft"),
    ("550", "soft"),
    ("554", "block"),
    ("", "soft"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "expected"), REPLIES)
def test_a_reply_is_judged_as_the_table_says(reply: str, expected: str) -> None:
    found = judge_refusal(reply)
    assert ("session" if found.is_session else found.kind) == expected


def test_a_bare_550_to_rcpt_means_the_mailbox() -> None:
    assert judge_refusal("", reply_code=550, answers_rcpt=True).kind == "hard"
    assert judge_refusal("", reply_code=550).kind == "soft"


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("550-5.1.1 none", "5.1.1", 550),
        ("smtp; 550 none", None, 550),
        ("5.0.0 then (#5.2.2)", "5.2.2", None),
        ("from 192.0.2.5.1.1 on 2.0.0", None, None),
        ("[192.168.1.550]: gone", None, None),
    ],
)
def test_codes_are_found_in_texts(text: str, status: str | None, code: int | None) -> None:
    assert (find_status(text), find_reply_code(text)) == (status, code)
