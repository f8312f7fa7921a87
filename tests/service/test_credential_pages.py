"""The public page of a credential: its text, its files, its limits, what its holder hides."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import struct
import zlib
from collections.abc import AsyncIterator

import httpx
import pytest
from lxml import etree
from pypdf import PdfReader
from tests.support.api_client import as_
from tests.support.badge_school import BadgeSchool, badge_school

from homeroom.bootstrap.personal_data import PERSONAL_DATA
from homeroom.credentials.open_badges import certificate
from homeroom.db.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.service]
HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
async def school(sqlite: Database) -> AsyncIterator[BadgeSchool]:
    async with badge_school(sqlite) as built:
        yield built


async def page(school: BadgeSchool, path: str) -> httpx.Response:
    return await school.http.get(f"/credentials/{path}", headers=HTML)


def chunks_of(png: bytes) -> list[tuple[bytes, bytes]]:
    """Return type and data of the chunks of a PNG, their checksums verified."""
    chunks, place = [], 8
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        body = png[place + 4 : place + 8 + length]
        assert struct.unpack_from(">I", png, place + 8 + length) == (zlib.crc32(body),)
        chunks.append((body[:4], body[4:]))
        place += 12 + length
    return chunks


async def test_the_page_shows_what_was_earned_and_by_whom(school: BadgeSchool) -> None:
    credential = await school.issue()
    answer = await page(school, credential.id)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for text in ("Data für alle", "Ada Ọkáfọ̀r", "22 November 2026", "22 November 2027", "Valid"):
        assert text in answer.text
    assert answer.headers["x-robots-tag"] == "noindex"
    assert f'<meta property="og:image" content="{credential.url}.png">' in answer.text
    for host in ("www.linkedin.com", "x.com", "www.facebook.com"):
        assert f'href="https://{host}/' in answer.text
    # The policy allows this style and this script and nothing else.
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; img-src 'self'")
    for tag in ("style", "script"):
        [content] = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


async def test_texts_of_the_school_stay_texts(school: BadgeSchool) -> None:
    credential = await school.issue(title="<b>&\"' course</b>")
    answer = await page(school, credential.id)
    assert "<b>" not in answer.text
    files = [
        await school.http.get(f"/credentials/{credential.id}.{each}") for each in ("pdf", "svg")
    ]
    assert [each.status_code for each in files] == [200, 200]


async def test_a_program_gets_the_credential_at_the_same_address(school: BadgeSchool) -> None:
    credential = await school.issue()
    document = (await school.http.get(f"/credentials/{credential.id}.json")).json()
    answer = await school.http.get(
        f"/credentials/{credential.id}", headers={"Accept": "application/vc+ld+json"}
    )
    assert (answer.json(), answer.headers["vary"]) == (document, "Accept")


async def test_the_check_says_in_words_what_holds(school: BadgeSchool) -> None:
    credential = await school.issue()
    good = await page(school, f"{credential.id}/verification")
    assert "genuine and holds today" in good.text
    await school.credentials.revoke(credential.id, "a mistake", "cli:test")
    revoked = await page(school, f"{credential.id}/verification")
    assert "does not hold" in revoked.text
    assert "It was revoked." in revoked.text
    assert "a mistake" not in revoked.text
    async with school.db.write() as tx:
        await tx.execute("UPDATE open_badge SET document = replace(document, 'alle', 'Otto')")
    changed = await page(school, f"{credential.id}/verification")
    assert "The signature is wrong" in changed.text


async def test_hidden_names_are_nowhere_and_listed_pages_may_be_found(school: BadgeSchool) -> None:
    credential = await school.issue()
    before = await school.http.get(f"/credentials/{credential.id}.pdf")
    path = f"/api/v1/credentials/{credential.id}/sharing"
    body = {"showsName": False, "isListed": True}
    assert (await school.http.put(path, json=body, headers=as_("learner:ada"))).status_code == 200
    answer = await page(school, credential.id)
    assert "Ada" not in answer.text
    assert "x-robots-tag" not in answer.headers
    assert "noindex" not in answer.text
    after = await school.http.get(f"/credentials/{credential.id}.pdf")
    texts = [
        PdfReader(io.BytesIO(each.content)).pages[0].extract_text() for each in (before, after)
    ]
    assert ["Ada" in text for text in texts] == [True, False]


async def test_the_certificate_is_one_page_with_its_fonts_in_any_script(
    school: BadgeSchool,
) -> None:
    text = certificate.CertificateText(
        url="https://school.example/credentials/x",
        title="Ein sehr langer Titel " * 9,
        holder="عائشة अदिति Ελένη Жанна Ọkáfọ̀r",
        completed_at=0,
        valid_until=None,
        evidence=(("Score", "87.5 %"),),
        jws="a.b.c",
    )
    reader = PdfReader(io.BytesIO(school.pages.files.render(text, "pdf")))
    [only] = reader.pages
    extracted = only.extract_text()
    for part in ("Ελένη", "Жанна", "अदि", "87.5 %", "https://school.example/credentials/x"):
        assert part in extracted
    fonts = only["/Resources"]["/Font"]
    names = {fonts[name]["/BaseFont"] for name in fonts}
    # Embedded subsets; the Devanagari letters are in Noto Sans itself.
    assert {name.partition("+")[2].partition("-")[0] for name in names} == {
        "NotoSans",
        "NotoSansArabic",
    }


async def test_the_badge_images_carry_the_credential(school: BadgeSchool) -> None:
    credential = await school.issue()
    jws = (await school.http.get(f"/credentials/{credential.id}.jwt")).text
    png = await school.http.get(f"/credentials/{credential.id}.png")
    assert png.headers["content-type"] == "image/png"
    chunks = chunks_of(png.content)
    assert [chunks[0][0], chunks[-1][0]] == [b"IHDR", b"IEND"]
    [baked] = [data for kind, data in chunks if kind == b"iTXt"]
    keyword, _, rest = baked.partition(b"\0")
    assert (keyword, rest[:4], rest[4:].decode()) == (b"openbadgecredential", b"\0\0\0\0", jws)
    svg = etree.fromstring((await school.http.get(f"/credentials/{credential.id}.svg")).content)
    [element] = svg.findall("{https://purl.imsglobal.org/ob/v3p0}credential")
    assert element.get("verify") == jws


async def test_files_are_rendered_once_and_limited_per_address(
    school: BadgeSchool, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = await school.issue()
    rendered = []
    monkeypatch.setattr(
        certificate, "_render_in_process", lambda form, data: rendered.append(form) or b"%PDF"
    )
    path = f"/credentials/{credential.id}.pdf"
    answers = [await school.http.get(path) for _ in range(3)]
    assert (rendered, {each.status_code for each in answers}) == (["pdf"], {200})
    tag = answers[0].headers["etag"]
    assert (await school.http.get(path, headers={"If-None-Match": tag})).status_code == 304
    for _ in range(30):
        await page(school, f"{credential.id}/verification")
    assert (await page(school, f"{credential.id}/verification")).status_code == 429
    other = {**HTML, "X-Forwarded-For": "192.0.2.7"}
    answer = await school.http.get(f"/credentials/{credential.id}/verification", headers=other)
    assert answer.status_code == 200
    assert (await school.http.get(path)).status_code == 200  # what is cached costs nothing


async def test_a_page_that_is_gone_or_never_was_says_so(school: BadgeSchool) -> None:
    credential = await school.issue()
    await PERSONAL_DATA.erase(school.db, "ada", "admin")
    gone = await page(school, credential.id)
    assert gone.status_code == 410
    assert "gone" in gone.text
    assert (await page(school, "AAAAAAAAAAAAAAAAAAAAAAAA")).status_code == 404
    assert (await school.http.get(f"/credentials/{credential.id}.pdf")).status_code == 410
