"""Example files of a credential, in a school's own look."""

from __future__ import annotations

from homeroom.clock import Clock
from homeroom.credentials.open_badges.badge_document import IssuerProfile
from homeroom.credentials.open_badges.certificate import (
    CertificateFiles,
    CertificateStyle,
    CertificateText,
    ImageForm,
)
from homeroom.credentials.open_badges.page import PageContent, credential_page
from homeroom.instant import DAY

_FORMS: tuple[ImageForm, ...] = ("pdf", "png", "svg")
_NO_CREDENTIAL = "preview"


def preview_files(
    profile: IssuerProfile, style: CertificateStyle, title: str, learner: str
) -> dict[str, bytes]:
    """Return the files of an example by name: page, certificate, badges.

    Blocks for a second. Raises ``HomeroomError`` for a file that cannot be rendered, such as
    for a logo that is no picture.
    """
    now = Clock().now()
    text = CertificateText(
        url=profile.credential_url(_NO_CREDENTIAL),
        title=title,
        holder=learner,
        completed_at=now,
        valid_until=now + 365 * DAY,
        evidence=(),
        jws=_NO_CREDENTIAL,
    )
    files = CertificateFiles(profile, style, Clock())
    content = PageContent(
        text=text,
        path="credential",
        id=_NO_CREDENTIAL,
        criteria=f"Complete the course {title}.",
        revoked_at=None,
        is_superseded=False,
        is_listed=False,
    )
    page = credential_page(profile, style.colour, content, now)
    return {
        "credential.html": page.html.encode(),
        **{f"credential.{form}": files.render(text, form) for form in _FORMS},
    }
