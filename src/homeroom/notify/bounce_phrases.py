"""Phrases by which bounces, delays and automatic replies are recognised (pure)."""

from __future__ import annotations

import re


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


DAEMON = _any_of(
    r"mailer[-_.]?daemon",
    r"post ?master",
    r"mail[-_. ]?delivery",
    r"mail ?system",
    r"\bmdaemon\b",
    r"system administrator",
    r"mail administrator",
    r"\bdaemon@",
    r"no-?reply.*delivery",
    r"mailadmin",
)
"""The senders of bounces."""
BOUNCE_SUBJECT = _any_of(
    r"undeliver(?:able|ed)",
    r"un-?deliver",
    r"fail(?:ure|ed)? ?notice",
    r"deliver\w* (?:status|fail|problem|error|report|has failed)",
    r"deliver\w* \(?fail",
    r"mail (?:deliver\w*|system|transfer) (?:fail|error|problem|subsystem|status|report)",
    r"fail\w* (?:mail|deliver)",
    r"(?:returned|bounced?|rejected|refused) (?:e-?)?mail|message|returned to sender",
    r"returned mail|returning message|mail (?:failure|not delivered|error)",
    r"(?:could|can) ?not (?:be )?deliver|not (?:be )?delivered|non-?deliver|nondeliver"
    r"|\bndn\b|\bndr\b",
    r"non (?:remis|distribu)|unzustellbar|nicht zugestellt|zustellung|mancato recapito"
    r"|no (?:se )?(?:ha podido )?entrega|niet bezorgd|erreur",
    r"warning: |deliver\w* warning|processing error|mail failed|user unknown|unknown user"
    r"|unknown address|error sending|message status|address error|bad address|bounce|rejected",
)
"""Subjects of bounces."""
BOUNCE_TEXT = _any_of(
    r"(?:could|can|was|is|were|has|have|did)(?: ?not|n't) (?:be |been "
    r"|able to )?(?:\w+ )?(?:deliver|reach|sent|receive|completed)",
    r"(?:unable|failed|impossible|failure) (?:to |in )?(?:\w+ )?deliver",
    r"undeliver(?:able|ed)",
    r"deliver\w*[^.]{0,60}fail",
    r"fail\w*[^.]{0,40}deliver",
    r"permanent(?:ly)? (?:error|fail|fatal)",
    r"fatal error",
    r"transcript of (?:the )?session",
    r"delivery (?:status|report|error|attempt)",
    r"returned (?:to sender|mail|message)|returning (?:your )?(?:message|mail)",
    r"message (?:was |has been )?(?:rejected|bounced|not sent|returned)",
    r"not (?:yet )?been delivered|user unknown|unknown user|no such user|does not exist"
    r"|mailbox is full|invalid (?:final )?deliver|unknown recipient",
    r"n.a pas pu (?:et|êt)re|konnte nicht|kein(?:e|en) zustell|non (?:è|e') stato|no (?:pudo"
    r"|ha podido)|could not send|not accept|error transferring to|refused|failed (?:address"
    r"|recipient)|been returned because|has been postponed",
)
"""What bounces say of a mail."""
DELAY = _any_of(
    r"delay(?:ed)?\b",
    r"not (?:yet )?been (?:\w+ )?delivered (?:yet|to)",
    r"(?:will|still) (?:be )?(?:keep )?(?:retr(?:y|ied)|try(?:ing)?|tried)",
    r"will (?:continue|keep) (?:to |on )?(?:be )?(?:try|retr|attempt)"
    r"|attempts will (?:continue|be made)",
    r"warning message only|do not need to resend|no action is required|is still (?:being"
    r"|in the)|has been (?:deferred|postponed)|will be retried|transient (?:error|fail)",
)
"""What a server says that still tries."""
GIVEN_UP = _any_of(
    r"(?:have|has|'ve|am|are|is|'m) giv(?:en|ing) (?:it )?up",
    r"permanent",
    r"will not (?:be |try|retr)|not (?:going|be able) to try",
    r"no further (?:attempt|deliver)",
    r"fatal error",
    r"could not be delivered within",
    r"delivery (?:has )?failed",
    r"i'm not going to",
)
"""What a server says that tries no more."""
AUTO_REPLY_SUBJECT = _any_of(
    r"^\s*(?:re: ?)?(?:auto(?:matic|mated)?[- ]?(?:re(?:ply|sponse)|antwort)|autoreply|auto:)",
    r"out of (?:the )?office|away from|on (?:vacation|leave|holiday)",
    r"abwesen|automatische antwort|nicht im b|absence|absent|réponse automatique|fuera de"
    r"|respuesta autom|risposta automatica|afwezig|vacation",
    r"autosvar|ferien|urlaub|your (?:request|ticket|enquiry|message) (?:has been"
    r"|was) received|thank you for (?:contacting|your)",
)
"""Subjects of automatic replies."""
CUT = _any_of(
    r"(?:original|returned|rejected|unsent|undelivered) (?:message|mail|e-?mail)(?: headers?"
    r"| text| attached)?(?: (?:follows|is|attached|below))?\W*$",
    r"^\W*(?:below this line|this is a copy|here is a copy|a copy of|the header of"
    r"|--- ?(?:original|header|undelivered|returned|message|the))",
    r"^\W*(?:message|mail|unsent|original|headers?) (?:header|text|body"
    r"|contents?)[^a-z]{0,40}follow",
    r"^(?:return-path|received|message-id|x-[\w-]+):",
    r"copy of (?:the|your) message",
    r"first \d+ (?:bytes|lines)|your (?:original )?message (?:follows|reads|text|is enclosed"
    r"|begins)|^\W*begin (?:original|message)|^\W*-+ ?original",
)
"""The line before the copy of the original mail."""
