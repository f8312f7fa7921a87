"""Judgement of a refused mail: the address, or the sender and the mail (pure).

Status codes alone mislead. Relays write ``5.0.0`` for an unknown user, Microsoft 365 ``5.4.1``, and
a blocked sender is answered with ``550 5.1.0``. So the text decides where it is plain, then the
enhanced status (RFC 3463), then the reply code (RFC 5321). Decision 0028 has the order and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

BounceKind = Literal["hard", "soft", "block"]
"""``hard``: the address is invalid. ``soft``: it may work later. ``block``: about the sender, the
session or the mail; it never counts against the address."""
MAX_REFUSAL_LENGTH = 2_000
_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_REPLY = re.compile(r"(?:\A|(?<=[\s:;(#\[=]))([45][0-5]\d)(?=[\s:;)\-\].]|#|\Z)")
_ADDRESS = re.compile(r"[^\s@<>()\[\]\"',;:]{1,64}@[^\s@<>()\[\]\"',;:]{1,255}")
_BARE_REFUSALS = frozenset({550, 551, 553})
"""Reply codes to RCPT that mean an unknown mailbox if nothing says otherwise."""


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


_SENDER = _any_of(
    r"sender (?:address )?(?:has been |was |is |verif\w+ )?(?:rejected|denied|refused|blocked"
    r"|failed|unknown)",
    r"sender (?:verif|domain|reputation|id|policy|not|is not|ip)|invalid sender|bad sender",
    r"domain of (?:the )?sender|sender'?s? (?:domain|ip|address|server)|envelope.?(?:sender"
    r"|from)",
    r"mail.?from (?:address|domain|command)|return.?path|reverse.?path|unauthenticated sender",
    r"sender .{0,80}(?:blocked|not allowed|not authori[sz]ed|does not exist|not exist|rejected)",
    r"(?:client|connecting|sending) (?:host|ip|server|mta|address|domain|name)"
    r"|client .{0,60}rejected",
    r"\b(?:helo|ehlo)\b|\bptr\b|reverse (?:dns|lookup|hostname)|\brdns\b|fcrdns",
    r"your (?:ip|host|(?:mail |sending |smtp )?server|domain|network|isp|account|mta"
    r"|organi[sz]ation|tenant"
    r"|connection|country|reputation|sending)\b",
    r"relay(?:ing)? (?:access )?(?:is |was )?(?:denied|not|prohibited|forbidden|rejected"
    r"|disabled)",
    r"(?:unable|not (?:permitted|allowed|authori[sz]ed)|do(?:es)? not|cannot|can't|don't"
    r"|won't|no) (?:to )?(?:allow )?relay",
    r"relay (?:attempt|restriction|operation|disallow)|not a relay|open relay"
    r"|through this (?:server|host)",
    r"authenticat(?:ion|e|ed) (?:is )?(?:required|needed|failed|first|before)|(?:must|need to"
    r"|please) (?:be )?(?:log ?in|authenticat)",
    r"not logged in|starttls|\btls (?:is )?required|encryption (?:is )?(?:required|needed)",
    r"not (?:authori[sz]ed|allowed|permitted) to (?:send|use)|send(?:ing)? as|sendasdenied",
    r"\bspf\b|\bdkim\b|\bdmarc\b|sender policy framework|from address|from domain|from: header",
    r"sending (?:quota|limit|rate|ip|domain)|(?:daily|hourly|message) (?:sending "
    r"|rate )?(?:quota|limit)",
    r"(?:rate|connection|recipient|message|volume) ?-?limit|limit(?:ed)? rate|throttl"
    r"|too many (?:connections?|"
    r"recipients|concurrent|sessions|mails|e-?mails|requests|errors|messages (?:from|in|per"
    r"|this))",
    r"grey-?list|gray-?list",
)
"""What a server says about Homeroom, its relay, its addresses or its rate."""
_FULL = _any_of(
    r"(?:mail ?box|inbox|account|folder|mailfolder|user|recipient|maildir|storage|disk|quota"
    r"|address)"
    r".{0,60}(?:\bfull\b|over.?quota|exceed|over (?:its|the|their|his|disk)? ?(?:limit|quota"
    r"|size|allocat|storage))",
    r"over.?quota|quota (?:has been |is |was )?(?:exceeded|full|violation|overflow)"
    r"|exceed\w* .{0,40}quota|quotaexceeded",
    r"(?:insufficient|not enough|out of|no|low on) (?:system |disk |storage |mailbox "
    r"|free )?(?:storage|space)|mailbox size",
    r"reached (?:\w+ )?(?:disk )?quota|too much mail|quota limit|exdiskquota",
    r"receiving (?:mail|email|messages|e-mail) (?:at a rate|too quickly|too fast)"
    r"|too many messages (?:on|in) (?:this|the)",
    r"temporar(?:y|ily) (?:\w+ ){0,3}(?:disabled|suspended|unavailable|locked|inactive)",
    r"(?:unverified|unverifiable) (?:address|recipient)|address verification|callout",
)
"""A mailbox that exists and may work later."""
_PERSON = (
    r"(?:user(?: ?name| ?id)?|recipient(?:'s)?|mail ?box|account|addressee|mail ?drop"
    r"|e-?mail(?: address)?|alias"
    r"|address(?:es)?|login|employee|subscriber|maildir|local part|destination)"
)
_UNKNOWN = _any_of(
    _PERSON + r"[^.;!]{0,60}?(?:unknown|not known|(?:not|n't|cannot) (?:be )?(?:found|located"
    r"|recogni[sz]ed|exist\w*|listed|valid)"
    r"|not? exist|no longer|unrouteable|unroutable|invalid|(?:is|was|has been|been) "
    r"(?:permanently |currently )?(?:disabled|deactivated|inactive|closed|deleted|removed"
    r"|suspended|terminated|cancell?ed|expired)"
    r"|not (?:a )?(?:valid|known|existing|active|available on|our|local)|not in (?:our|my"
    r"|the)|unavailable|disabled"
    r"|has (?:moved|left)|not (?:accepting|receiving) (?:mail|messages|e-?mail)\w*(?! from))",
    r"(?:unknown|no such|invalid|bad|non-?existent|unroute?able|undefined|illegal"
    r"|unrecogni[sz]ed|inactive|disabled"
    r"|not a valid|no valid|not a known|not known|unknown or illegal|not an existing|obsolete"
    r"|undeliverable)"
    r" (?:final |local |virtual |e-?mail |destination |delivery |remote |smtp |or \w+ "
    r"|mail )*(?:user|recipient|"
    r"mail ?box|account|address(?:ee)?|name|person|alias|customer|part|host|domain|userid|login"
    r"|id\b|mail ?drop)",
    r"(?:host|domain)(?: or domain)?(?: name)?[^.;!]{0,40}?(?:not found|unknown|(?:not"
    r"|n't) exist|couldn.t be found|no longer|"
    r"invalid|nonexistent|not valid|cannot be resolved)",
    r"no (?:mail ?box|user|account|recipient|such|one) (?:here|by that|with that|exists|found"
    r"|of that|named|called|matching)",
    r"(?:do(?:es)?|has|have) ?n.?t have an? .{0,40}account|not (?:one of )?our (?:customer"
    r"|user)|\bnull ?mx\b|no mx record"
    r"|nodomain|nxdomain|accept no mail|does not accept (?:any )?(?:e-?mail|mail)\b(?! from)",
    r"user[ _-]?unknown|unknown[ _-]?user|recipientnotfound|recipnotfound|recipient not found"
    r"|user not found|couldn.t be found",
    r"recipient (?:address )?rejected: access denied(?! by| due)|mail ?box unavailable"
    r"|not listed in|account .{0,20}not active",
    r"nosuchuser|no such (?:user|mailbox|address|recipient|person|account)|invalid (?:user"
    r"|mailbox|recipient|address)",
    r"unbekannter? (?:empf|benutzer|nutzer|adress)|(?:empf.{1,8}nger|benutzer|adresse"
    r"|postfach) .{0,40}(?:unbekannt|existiert|nicht gefunden)",
    r"(?:utilisateur|destinataire|adresse|compte) .{0,40}(?:inconnu|introuvable|inexistant"
    r"|n.existe)",
    r"(?:usuario|destinatario|cuenta|buz.n|direcci.n) .{0,40}(?:desconocid|no existe"
    r"|inexistente)|utente .{0,40}sconosciut",
)
"""An address, or its host, that does not exist or was given up."""
_BLOCK = _any_of(
    r"block(?!s? ?size)|black.?list|deny.?list|(?:is|are|was|been|currently) listed"
    r"|listed (?:at|by|on|with)|dnsbl|\brbl\b|spam|\bsbl\b"
    r"|\bxbl\b|\bpbl\b|barracuda|proofpoint|mimecast|senderbase|talos|cloudmark|senderscore"
    r"|reputation|unsolicited|abus(?:e|ive)|complaint",
    r"virus|malware|phish|junk|\bbulk\b|infected|suspicious|blocked|banned|content|attachment"
    r"|profan|\burls?\b",
    r"polic(?:y|ies)|prohibit|administrative|restrict|forbidden|not (?:allowed|permitted"
    r"|accepted|authori[sz]ed)|unauthori[sz]ed"
    r"|access denied|permission|denied|moderat|only accepts?|not accept\w* .{0,40}from"
    r"|security|firewall|rule\b|transport\.rules",
    r"(?:message|mail|e-?mail|body|data|header)(?: size)? (?:is )?(?:too (?:big|large|long)"
    r"|exceeds?|size|length|rejected|refused"
    r"|discarded|format|content|not rfc)|size limit|max(?:imum)? ?(?:message )?size"
    r"|too (?:big|large)|rfc ?[25]?822|bare (?:lf|cr)",
    r"(?:server|system|service) (?:configuration|error|busy|unavailable|down|not (?:available"
    r"|accepting))|syntax error|command (?:not|rejected)"
    r"|out of sequence|bad sequence|protocol|local (?:error|configuration)|\bi/o error"
    r"|mail server configuration",
)
"""A block, a policy, the mail's content or form, or a fault of a server."""
_LATER = _any_of(
    r"tim(?:ed|e) ?-?out|expired|too long|retry (?:time|timeout)|unreachable|no route"
    r"|connection (?:refused|lost|reset|closed|timed|dropped"
    r"|was|to .{0,80}failed)|not respond|unable to (?:connect|establish|reach)"
    r"|wasn.t able to establish|could not (?:connect|reach|be reached)",
    r"temporar|try (?:again|later)|deferred|name (?:service|server) (?:error|fail)"
    r"|dns (?:error|fail|query)|lookup fail|mail loop|hop count"
    r"|too many hops|loops? back|in use|locked|busy",
)
_SESSION_WORDS = _any_of(
    r"dnsbl|\brbl\b|black.?list|spamhaus|spamcop|barracuda|reputation|listed (?:at|by|on)",
    r"\b[sxp]bl\b",
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The judgement of a refusal."""

    kind: BounceKind
    is_session: bool = False
    """It is about the sender or the session, so the next mail may be refused for it too."""


def find_status(text: str) -> str | None:
    """Return the enhanced status of a text, such as ``5.1.1``; None without one.

    A ``5.0.0`` says nothing, so another one after it is preferred.
    """
    found = [hit[0] for hit in _STATUS.finditer(text[:MAX_REFUSAL_LENGTH]) if int(hit[1]) != 2]
    return next(
        (status for status in found if not status.endswith(".0.0")), next(iter(found), None)
    )


def find_reply_code(text: str) -> int | None:
    """Return the first reply code of a text, such as 550; None without one."""
    found = _REPLY.search(text[:MAX_REFUSAL_LENGTH])
    return None if found is None else int(found[1])


def judge_refusal(
    text: str,
    *,
    reply_code: int | None = None,
    status: str | None = None,
    answers_rcpt: bool = False,
) -> Refusal:
    """Judge a refusal by text, enhanced status and reply code together.

    ``answers_rcpt`` says that a server answered RCPT with it: a bare 550 then means the address.
    Without a code or a status, those of the text are read. A 4xx is never hard.
    """
    if reply_code is None:
        reply_code = find_reply_code(text)
    read = read_refusal(text, reply_code=reply_code, status=status)
    return read or _judge_code(reply_code, answers_rcpt)


def read_refusal(
    text: str, *, reply_code: int | None = None, status: str | None = None
) -> Refusal | None:
    """Judge a refusal by text and enhanced status; None where they say nothing."""
    text = text[:MAX_REFUSAL_LENGTH]
    inner = find_status(text)
    if status is None or (status.endswith(".0.0") and inner is not None):
        status = inner
    if reply_code is None:
        reply_code = find_reply_code(text)
    words = " ".join(_ADDRESS.sub("<>", text.lower()).split())
    judged = _judge_words(words) or _judge_status(status)
    if judged is not None and judged.kind == "hard" and _is_temporary(reply_code, status):
        return Refusal("soft")
    return judged


def _is_temporary(reply_code: int | None, status: str | None) -> bool:
    if reply_code is not None and reply_code >= 500:
        return False
    if reply_code is not None:
        return not (status or "4").startswith("5")
    return status is not None and status.startswith("4")


def _judge_words(words: str) -> Refusal | None:
    if _SENDER.search(words):
        return Refusal("block", is_session=True)
    if _FULL.search(words):
        return Refusal("soft")
    if _UNKNOWN.search(words):
        return Refusal("hard")
    if _BLOCK.search(words):
        return Refusal("block", is_session=_SESSION_WORDS.search(words) is not None)
    if _LATER.search(words):
        return Refusal("soft")
    return None


_HARD_DETAILS = {
    1: frozenset({0, 1, 2, 3, 4, 6, 10}),
    2: frozenset({1}),
    4: frozenset({4, 310}),
}
"""Subject and details of statuses that speak of the address; 5.4.310 is Microsoft's."""
_BLOCK_SUBJECTS = frozenset({3, 5, 6, 7})
_BLOCK_DETAILS = {1: frozenset({7, 8, 9}), 2: frozenset({3}), 4: frozenset({5})}


def _judge_status(status: str | None) -> Refusal | None:
    if status is None:
        return None
    _, subject, detail = (int(part) for part in status.split("."))
    if subject in _BLOCK_SUBJECTS:
        return Refusal("block")
    if detail in _BLOCK_DETAILS.get(subject, ()):
        return Refusal("block", is_session=subject == 1)
    if detail in _HARD_DETAILS.get(subject, ()):
        return Refusal("hard")
    return None if subject == 0 else Refusal("soft")


def _judge_code(reply_code: int | None, answers_rcpt: bool) -> Refusal:
    if answers_rcpt and reply_code in _BARE_REFUSALS:
        return Refusal("hard")
    if reply_code == 556:
        return Refusal("hard")  # RFC 7504: the domain accepts no mail
    if reply_code is not None and (reply_code in range(500, 550) or reply_code >= 554):
        return Refusal("block")  # a command, or the whole transaction: not a mailbox
    return Refusal("soft")


def worst_refusal(refusals: Iterable[Refusal]) -> Refusal:
    """Return the refusal that says most: hard, then block, then soft."""
    order = {"hard": 0, "block": 1, "soft": 2}
    return min(refusals, key=lambda each: order[each.kind], default=Refusal("soft"))
