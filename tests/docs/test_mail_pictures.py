"""Mails fit a phone and a desktop, light and dark; the pictures in the docs show them so."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.docs.mail_png import GAP, PICTURES, Picture, school, shown_page, take_picture
from tests.support.browser import browse
from tests.support.missing_server import skip_or_fail
from tests.support.png import brightness, decode_png
from tools.servers.debian import Missing
from tools.servers.node import installed

from homeroom.notify.api import MESSAGE_TYPES, list_languages

ROOT = Path(__file__).parents[2]
AXE = ROOT / "tests" / "service" / "credential_verifier"
PHONE_WIDTH = 360
RESULT = re.compile(r'<pre id="found">(.+?)</pre>', re.DOTALL)
WIDTHS = """
<script>
const widths = [...document.querySelectorAll("iframe")].map((frame) => [
  frame.title, frame.contentDocument.documentElement.scrollWidth]);
document.getElementById("found").textContent = JSON.stringify(widths);
</script>
"""
RUN_AXE = """
<script>
const wcag = { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"] };
Promise.all([...document.querySelectorAll("iframe")].map(async (frame) => {
  const { violations, passes } = await frame.contentWindow.axe.run(
    frame.contentDocument, wcag);
  const faults = violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]);
  return [frame.title, faults, passes.map(({ id }) => id)];
})).then((all) => { document.getElementById("found").textContent = JSON.stringify(all); });
</script>
"""


def open_frames(pages: dict[str, str], script: str, folder: Path) -> Any:
    """Open pages as wide as a phone and return what a script finds in them."""
    frames = "".join(
        f'<iframe title="{name}" style="border:0;width:{PHONE_WIDTH}px;height:800px"'
        f' srcdoc="{html.escape(page)}"></iframe>'
        for name, page in pages.items()
    )
    file = folder / "frames.html"
    body = f'<body>{frames}<pre id="found"></pre></body>'
    loaded = script.replace("<script>", "<script>addEventListener('load', () => {").replace(
        "</script>", "});</script>"
    )
    file.write_text(f"<!doctype html><meta charset=utf-8>{body}{loaded}", encoding="utf-8")
    try:
        shown = browse(file, folder, "--dump-dom")
    except Missing as missing:
        skip_or_fail(missing)
    found = RESULT.search(shown)
    assert found is not None
    return json.loads(html.unescape(found[1]))


def test_every_mail_is_as_wide_as_a_phone(tmp_path: Path) -> None:
    pages = {
        f"{type} ({language})": shown_page(type, language, is_dark=False, school=school())
        for type in MESSAGE_TYPES
        for language in list_languages()
    }
    widths = dict(open_frames(pages, WIDTHS, tmp_path))
    assert widths.keys() == pages.keys()
    assert {name: width for name, width in widths.items() if width > PHONE_WIDTH} == {}


def test_mails_can_be_read_in_light_and_dark_with_any_colour(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert request.config.cache is not None
    try:
        folder = installed(AXE, Path(request.config.cache.mkdir("credential-verifier")))
    except Missing as missing:
        skip_or_fail(missing)
    axe = (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    pages = {
        f"{type} {colour} {'dark' if is_dark else 'light'}": shown_page(
            type, "en-GB", is_dark=is_dark, school=school(colour)
        ).replace("</body>", f"<script>{axe}</script></body>")
        for type in ("log_reminder", "manager_report")
        for colour in ("#7a1f4e", "#ffe066")
        for is_dark in (False, True)
    }
    found = open_frames(pages, RUN_AXE, tmp_path)
    assert [name for name, _, _ in found] == list(pages)
    assert {name: violations for name, violations, _ in found if violations} == {}
    assert all("color-contrast" in passes for _, _, passes in found)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.file)
def test_the_picture_in_the_docs_shows_the_mail_light_and_dark(
    picture: Picture, tmp_path: Path
) -> None:
    taken = tmp_path / picture.file
    try:
        take_picture(picture, tmp_path, taken)
    except Missing as missing:
        skip_or_fail(missing)
    decoded = [decode_png(file.read_bytes()) for file in (taken, ROOT / "docs" / picture.file)]
    for width, rows in decoded:
        assert (width, len(rows)) == (picture.width, picture.height), "take it again: mail_png"
        assert brightness(rows, 0, picture.frame_width) > 200
        assert brightness(rows, picture.frame_width + GAP, width) < 80
    # The fonts of machines differ, the areas of colour do not.
    new, stored = (brightness(rows, 0, width) for width, rows in decoded)
    assert new == pytest.approx(stored, abs=4)
