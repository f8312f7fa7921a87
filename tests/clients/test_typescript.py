"""The TypeScript client: types, unit tests, package, size, and a real browser on a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.support.effort import EFFORT
from tests.support.homeroom_process import ADMIN_KEY, server
from tests.support.missing_server import skip_or_fail
from tools.servers.chromium import need_chromium
from tools.servers.debian import Missing
from tools.servers.port import free_port

# One worker: all tests use the same folder, and the browser wants a core.
pytestmark = [pytest.mark.service, pytest.mark.xdist_group("typescript-client")]
SOURCE = Path(__file__).resolve().parents[2] / "clients" / "typescript"
JWT_SECRET = "a-secret-of-the-browser-tests-of-32-bytes"
PATIENCE_SECONDS = 800


def run(folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a tool of the package on the Node that the package brings; fail with what it says."""
    tools = folder / "node_modules" / ".bin"
    ended = subprocess.run(
        [str(tools / words[0]), *words[1:]],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "NO_COLOR": "1",
            "TEST_EFFORT": str(EFFORT),
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-8_000:] + ended.stderr[-4_000:]


def test_the_lock_is_exact_and_names_no_registry() -> None:
    package = json.loads((SOURCE / "package.json").read_text(encoding="utf-8"))
    assert all(re.fullmatch(r"[\d.]+", each) for each in package["devDependencies"].values())
    assert "dependencies" not in package, "what a page loads is all ours"
    locked = json.loads((SOURCE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert locked.pop("")["devDependencies"] == package["devDependencies"]
    assert all("resolved" not in each for each in locked.values())
    assert all(each["integrity"].startswith("sha512-") for each in locked.values())


def test_types_and_units_hold_and_the_queue_agrees_with_its_model(typescript_client: Path) -> None:
    run(typescript_client, "tsc", "--noEmit")
    run(typescript_client, "vitest", "run", "--project", "unit")


def test_the_blocks_of_the_readme_compile(typescript_client: Path) -> None:
    text = (SOURCE / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^```tsx?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(found) == text.count("```ts")
    folder = typescript_client / "readme"
    folder.mkdir(exist_ok=True)
    for number, block in enumerate(found):
        (folder / f"block-{number}.tsx").write_text(block, encoding="utf-8")
    paths = {
        "@homeroom/client": ["../src/index.ts"],
        "@homeroom/client/react": ["../src/react.tsx"],
    }
    options = {"extends": "../tsconfig.json", "include": ["."], "compilerOptions": {"paths": paths}}
    (folder / "tsconfig.json").write_text(json.dumps(options), encoding="utf-8")
    run(typescript_client, "tsc", "--noEmit", "-p", "readme")


def test_the_package_is_well_formed_and_small(typescript_client: Path) -> None:
    run(typescript_client, "tsc", "-p", "tsconfig.build.json")
    run(typescript_client, "publint", "--strict")
    run(typescript_client, "attw", "--pack", ".", "--profile", "esm-only")
    run(typescript_client, "size-limit")


def test_a_real_browser_loses_nothing_and_a_real_server_counts_nothing_twice(
    typescript_client: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    try:
        chromium = need_chromium()
    except Missing as missing:
        skip_or_fail(missing)
    port = free_port()
    settings = {
        "HOMEROOM_JWT_SECRET": JWT_SECRET,
        "HOMEROOM_CORS_ORIGINS": f"http://127.0.0.1:{port}",
    }
    with server(tmp_path, settings) as url:
        environment = {
            "HOMEROOM_TEST_URL": url,
            "HOMEROOM_TEST_ADMIN_KEY": ADMIN_KEY,
            "HOMEROOM_TEST_JWT_SECRET": JWT_SECRET,
            "HOMEROOM_TEST_PAGE_PORT": str(port),
            "HOMEROOM_TEST_RECORD": str(tmp_path / "enqueue.json"),
            "CHROMIUM": str(chromium),
        }
        run(typescript_client, "vitest", "run", "--project", "browser", environment=environment)
    # In the report of a run, without a limit: the machine may be busy with other tests.
    found = json.loads((tmp_path / "enqueue.json").read_text(encoding="utf-8"))
    record_property("enqueue_milliseconds", found)
