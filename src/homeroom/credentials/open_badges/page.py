"""The public page of a credential, as HTML with the policy that it needs.

``page_routes`` loads this module at the first page: jinja2 takes some megabytes.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from homeroom.credentials.open_badges.badge_document import IssuerProfile
from homeroom.credentials.open_badges.badge_issuer import BadgeCheck
from homeroom.credentials.open_badges.certificate import CertificateText, format_day
from homeroom.instant import to_datetime

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
)
_INLINE = {
    "style-src": re.compile("<style>(.*?)</style>", re.DOTALL),
    "script-src": re.compile("<script>(.*?)</script>", re.DOTALL),
}


@dataclass(frozen=True, slots=True)
class CredentialPage:
    """A page and its ``Content-Security-Policy``."""

    html: str
    policy: str


@dataclass(frozen=True, slots=True)
class PageContent:
    """The content of a page. Instants are microseconds UTC."""

    text: CertificateText
    path: str
    """The path of the credential at this server, without a form's ending."""
    id: str
    criteria: str
    revoked_at: int | None
    is_superseded: bool
    is_listed: bool


def credential_page(
    profile: IssuerProfile,
    colour: str,
    shown: PageContent,
    now: int,
    check: BadgeCheck | None = None,
) -> CredentialPage:
    """Return the page of a credential, with the result of a check if there is one."""
    text = shown.text
    is_over = text.valid_until is not None and text.valid_until < now
    state = "Valid"
    if shown.revoked_at is not None:
        state = "Revoked"
    elif is_over:
        state = "Expired"
    elif shown.is_superseded:
        state = "Replaced by a later one"
    fields = {
        "title": text.title,
        "summary": f"A credential of {profile.name}",
        "holder": text.holder,
        "url": text.url,
        "path": shown.path,
        "state": state,
        "verb": text.verb.capitalize(),
        "completed_on": format_day(text.completed_at),
        "valid_until": None if text.valid_until is None else format_day(text.valid_until),
        "revoked_on": None if shown.revoked_at is None else format_day(shown.revoked_at),
        "criteria": shown.criteria,
        "evidence": text.evidence,
        "share_links": share_links(profile, text, shown.id),
    }
    return _page(
        profile,
        colour,
        title=f"{text.title} · {profile.name}",
        is_listed=shown.is_listed,
        credential=fields,
        check=check,
        checked_at=f"{to_datetime(now):%d %B %Y, %H:%M} UTC",
    )


def message_page(profile: IssuerProfile, colour: str, title: str, message: str) -> CredentialPage:
    """Return a page that says why there is no credential to show."""
    return _page(
        profile, colour, title=title, message=message, is_listed=False, credential=None, check=None
    )


def share_links(profile: IssuerProfile, text: CertificateText, id: str) -> list[tuple[str, str]]:
    """Return plain links (name, URL) that share a credential."""
    completed = to_datetime(text.completed_at)
    linkedin: dict[str, str | int] = {
        "startTask": "CERTIFICATION_NAME",
        "name": text.title,
        "organizationName": profile.name,
        "issueYear": completed.year,
        "issueMonth": completed.month,
        "certUrl": text.url,
        "certId": id,
    }
    if text.valid_until is not None:
        end = to_datetime(text.valid_until)
        linkedin |= {"expirationYear": end.year, "expirationMonth": end.month}
    words = f"{text.title}, a credential of {profile.name}"
    mail = urlencode({"subject": words, "body": text.url}).replace("+", "%20")
    return [
        ("Add to LinkedIn", f"https://www.linkedin.com/profile/add?{urlencode(linkedin)}"),
        (
            "Share on X",
            f"https://x.com/intent/post?{urlencode({'text': words, 'url': text.url})}",
        ),
        (
            "Share on Facebook",
            f"https://www.facebook.com/sharer/sharer.php?{urlencode({'u': text.url})}",
        ),
        ("Send by e-mail", f"mailto:?{mail}"),
    ]


def _page(profile: IssuerProfile, colour: str, **values: Any) -> CredentialPage:
    html = _TEMPLATES.get_template("page.html.j2").render(issuer=profile, colour=colour, **values)
    policy = ["default-src 'none'", "img-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"]
    for directive, pattern in _INLINE.items():
        for content in pattern.findall(html):
            digest = b64encode(hashlib.sha256(content.encode()).digest()).decode()
            policy.append(f"{directive} 'sha256-{digest}'")
    return CredentialPage(html, "; ".join(policy))
