"""axe finds nothing on the pages of a credential, wide and narrow, light and dark."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from tests.support.badge_school import badge_school
from tests.support.browser import browse
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.node import installed

from homeroom.bootstrap.personal_data import PERSONAL_DATA
from homeroom.db.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.service]
HERE = Path(__file__).with_name("credential_verifier")
RUN = """
<pre id="found"></pre>
<script>
axe.run({ exclude: [["#found"]] }).then(({ violations, passes }) => {
  document.getElementById("found").textContent = JSON.stringify({
    passes: passes.map(({ id }) => id),
    violations: violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]),
  });
});
</script>
"""


async def test_axe_finds_nothing(
    sqlite: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert request.config.cache is not None
    try:
        folder = installed(HERE, Path(request.config.cache.mkdir("credential-verifier")))
    except Missing as missing:
        skip_or_fail(missing)
    axe = (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    async with badge_school(sqlite) as school:
        credential = await school.issue()
        path = f"/credentials/{credential.id}"
        wanted = {"Accept": "text/html"}
        check = (await school.http.get(f"{path}/verification", headers=wanted)).text
        await PERSONAL_DATA.erase(sqlite, "ada", "admin")
        gone = (await school.http.get(path, headers=wanted)).text
    dark = check.replace("(prefers-color-scheme: dark)", "all")
    assert dark != check
    for name, text, width in (
        ("light", check, 1200),
        ("dark", dark, 500),
        ("gone", gone, 1200),
    ):
        file = tmp_path / f"{name}.html"
        script = f"<script>{axe}</script>{RUN}"
        file.write_text(text.replace("</body>", script + "</body>"), encoding="utf-8")
        try:
            shown = browse(file, tmp_path, f"--window-size={width},1200", "--dump-dom")
        except Missing as missing:
            skip_or_fail(missing)
        found = re.search(r'<pre id="found">(.+?)</pre>', shown, re.DOTALL)
        assert found is not None
        result = json.loads(html.unescape(found[1]))
        assert result["violations"] == [], name
        assert {"color-contrast", "html-has-lang", "document-title"} <= set(result["passes"])
