"""``examples/react-course-player`` in Chromium: a film, a quiz, a cut network.

The picture of its README comes from here: ``PLAYER_PICTURE=1`` writes it anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from tests.support.homeroom_process import ADMIN, ADMIN_KEY, server
from tests.support.missing_server import skip_or_fail
from tools.servers.chromium import need_chromium
from tools.servers.debian import Missing
from tools.servers.node import installed
from tools.servers.port import free_port

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("typescript-client")]
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "react-course-player"
PICTURE = EXAMPLE / "player.png"
JWT_SECRET = "a-secret-of-the-player-tests-of-32-bytes"
PATIENCE_MS = 30_000
START_SECONDS = 60


@pytest.fixture(scope="module")
def player(request: pytest.FixtureRequest) -> Path:
    """Return a copy of the example, beside a copy of the client that it shows."""
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("course-player"))
    try:
        program = installed(EXAMPLE, folder / "examples" / "react-course-player")
    except Missing as missing:
        skip_or_fail(missing)
    client = Path("clients") / "typescript" / "src"
    shutil.copytree(ROOT / client, folder / client, dirs_exist_ok=True)
    return program


@contextmanager
def started(player: Path, homeroom: str) -> Iterator[str]:
    """Start the example as its README does; yield the address of its page."""
    port = free_port()
    process = subprocess.Popen(
        [
            *("node", "node_modules/vite/bin/vite.js"),
            *("--host", "127.0.0.1", "--port", str(port), "--strictPort"),
        ],
        cwd=player,
        env={
            **os.environ,
            "HOMEROOM_URL": homeroom,
            "HOMEROOM_KEY": ADMIN_KEY,
            "HOMEROOM_JWT_SECRET": JWT_SECRET,
            "NO_COLOR": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: list[str] = []
    limit = threading.Timer(START_SECONDS, process.kill)
    limit.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if "Local:" in line:
                break
        else:
            raise AssertionError("".join(said))
        yield f"http://127.0.0.1:{port}/"
    finally:
        limit.cancel()
        process.terminate()
        process.communicate(timeout=START_SECONDS)


def percent_is(page: Page, percent: str) -> None:
    expect(page.get_by_test_id("percent")).to_have_text(f"{percent} %", timeout=PATIENCE_MS)


def test_its_types_hold(player: Path) -> None:
    tsc = player / "node_modules" / ".bin" / "tsc"
    done = subprocess.run(
        [str(tsc), "--noEmit"], cwd=player, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout


def test_a_course_is_completed_with_the_network_cut_in_between(
    player: Path, tmp_path: Path
) -> None:
    try:
        chromium = need_chromium()
    except Missing as missing:
        skip_or_fail(missing)
    settings = {"HOMEROOM_JWT_SECRET": JWT_SECRET}
    with (
        server(tmp_path, settings) as homeroom,
        started(player, homeroom) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=str(chromium), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1000, "height": 640})
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(url)
        percent_is(page, "0")

        # A film at four times its speed: what was played counts.
        page.eval_on_selector("video", "video => { video.playbackRate = 4; return video.play() }")
        film = page.get_by_role("button", name="The recovery position")
        expect(film).to_contain_text("✓", timeout=PATIENCE_MS)
        percent_is(page, "33")

        page.get_by_label("Offline").check()
        page.get_by_role("button", name="Calling for help").click()
        page.get_by_role("button", name="I have read it").click()
        page.get_by_role("button", name="What would you do?").click()
        for answer in ("Recovery position", "The other side", "Where you are"):
            page.get_by_label(answer).check()
        page.get_by_role("button", name="Hand in").click()
        expect(page.get_by_test_id("queue")).to_have_text("2 kept on this device")
        percent_is(page, "33")
        picture = tmp_path / "player.png"
        page.screenshot(path=picture)
        assert picture.stat().st_size > 10_000
        if os.environ.get("PLAYER_PICTURE"):
            shutil.copy(picture, PICTURE)

        page.get_by_label("Offline").uncheck()
        percent_is(page, "100")
        expect(page.get_by_test_id("queue")).to_have_text("All is saved", timeout=PATIENCE_MS)
        expect(page.get_by_text("The course is complete.")).to_be_visible()
        browser.close()
        assert faults == []
        query = {"userId": "you"}
        history = httpx.get(
            f"{homeroom}/api/v1/courses/first-aid-player/progress/history",
            params=query,
            headers=ADMIN,
            timeout=30,
        ).json()["items"]
        assert [each["eventType"] for each in history].count("quiz_attempt") == 1
        done = httpx.get(
            f"{homeroom}/api/v1/completions", params=query, headers=ADMIN, timeout=30
        ).json()["items"]
        assert [each["courseId"] for each in done] == ["first-aid-player"]
