"""Picture a credential's page and certificate: ``python -m tests.docs.credential_png docs``.

Writes ``credential-page.png``, the page on a desktop and on a phone, and ``certificate.png``.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

import segno
import typst
from tests.support.browser import browse

from homeroom.credentials.open_badges import render_process
from homeroom.credentials.open_badges.badge_document import IssuerProfile
from homeroom.credentials.open_badges.certificate import CertificateStyle
from homeroom.credentials.open_badges.preview import preview_files

DESKTOP, PHONE, HEIGHT, GAP = 800, 390, 860, 24
PROFILE = IssuerProfile("https://learn.example.org", "Example School")
TITLE, LEARNER = "Data for everyone", "Ada Ọkáfọ̀r"


def picture_page(folder: Path, target: Path) -> None:
    """Write the picture of the page, wide and narrow side by side."""
    for name, content in preview_files(PROFILE, CertificateStyle(), TITLE, LEARNER).items():
        (folder / name).write_bytes(content)
    frames = "".join(
        f'<iframe src="credential.html" style="border:0;width:{width}px;height:{HEIGHT}px;'
        f'margin-right:{GAP}px"></iframe>'
        for width in (DESKTOP, PHONE)
    )
    both = folder / "both.html"
    both.write_text(f'<body style="margin:0;background:#fff;white-space:nowrap">{frames}</body>')
    size = f"--window-size={DESKTOP + GAP + PHONE},{HEIGHT}"
    browse(both, folder, size, f"--screenshot={target.resolve()}")


def picture_certificate(folder: Path, target: Path) -> None:
    """Write the picture of the certificate."""
    url = PROFILE.credential_url("4fTzq0bW1mUuYQ2yqkN8Qw7e")
    code = io.BytesIO()
    segno.make(url, error="m", micro=False).save(code, kind="svg", border=2)
    (folder / "qr.svg").write_bytes(code.getvalue())
    source = folder / "certificate.typ"
    source.write_bytes((render_process.HERE / source.name).read_bytes())
    data = {
        "title": TITLE,
        "issuer": PROFILE.name,
        "holder": LEARNER,
        "colour": CertificateStyle().colour,
        "logo": None,
        "signature": None,
        "signatory": "Head of School",
        "lines": ["Completed on 22 November 2026", "Valid until 22 November 2027"],
        "url": url,
        "qr": "qr.svg",
    }
    typst.compile(
        source,
        output=target.resolve(),
        root=folder,
        format="png",
        ppi=72.0,
        font_paths=render_process.font_folders(None),
        ignore_system_fonts=True,
        sys_inputs={"data": json.dumps(data)},
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        picture_page(Path(made), Path(sys.argv[1]) / "credential-page.png")
        picture_certificate(Path(made), Path(sys.argv[1]) / "certificate.png")
