"""The OpenAPI document as linters and generators read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.docs.client_types import DOCUMENT, SOURCE, TYPES, generate
from tests.support.homeroom_process import ADMIN, ADMIN_KEY, server
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.node import installed

pytestmark = pytest.mark.service
COURSE = {
    "title": "T",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "a", "title": "A"}]}],
}
CALL = """
import json, sys
from generated import AuthenticatedClient
from generated.api.progress import send_events
from generated.models import IngestAnswer, ProgressBatch

url, token, batch = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token)
answer = send_events.sync(client=client, body=ProgressBatch.from_dict(json.loads(batch)))
assert isinstance(answer, IngestAnswer)
print(json.dumps(answer.to_dict()))
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    return done.stdout


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Path:
    """Return a folder with the linters and the generator of TypeScript."""
    assert request.config.cache is not None
    try:
        return installed(SOURCE, Path(request.config.cache.mkdir("openapi-clients")))
    except Missing as missing:
        skip_or_fail(missing)


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> Path:
    """Return the ``bin`` of an environment with the generator of Python and mypy."""
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("openapi-python"))
    requirements = SOURCE / "requirements.txt"
    done = folder / "installed.txt"
    if not done.exists() or done.read_bytes() != requirements.read_bytes():
        run(sys.executable, "-m", "venv", "--clear", folder / "venv", cwd=folder)
        pip = (folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet")
        run(*pip, "--require-hashes", "--no-deps", "-r", requirements, cwd=folder)
        done.write_bytes(requirements.read_bytes())
    return folder / "venv" / "bin"


@pytest.fixture(scope="module")
def homeroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a server with a course."""
    with server(tmp_path_factory.mktemp("generated")) as url:
        httpx.put(f"{url}/api/v1/courses/c", json=COURSE, headers=ADMIN, timeout=60)
        yield url


def batch(id: str) -> str:
    return json.dumps(
        {
            "events": [
                {
                    "id": id,
                    "userId": "ada",
                    "courseId": "c",
                    "chapterId": "a",
                    "eventType": "chapter_progress",
                    "progress": 40,
                    "timestamp": "2026-11-22T09:00:00Z",
                }
            ]
        }
    )


def test_linters_find_nothing(node: Path) -> None:
    binaries = node / "node_modules" / ".bin"
    ruleset = ("--ruleset", "spectral.yaml", "--fail-severity", "hint")
    run(binaries / "spectral", "lint", *ruleset, DOCUMENT, cwd=node)
    # redocly ends with 0 in spite of warnings.
    found = json.loads(run(binaries / "redocly", "lint", "--format=json", DOCUMENT, cwd=node))
    assert found["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}


def test_the_types_of_the_typescript_client_are_those_of_the_document(
    node: Path, tmp_path: Path
) -> None:
    """After a change of the document: ``python -m tests.docs.client_types``."""
    assert TYPES.read_text(encoding="utf-8") == generate(node, tmp_path / "types")


def test_a_generated_typescript_client_compiles_and_sends(node: Path, homeroom: str) -> None:
    output = {"OPENAPI_DOCUMENT": str(DOCUMENT), "OPENAPI_OUTPUT": "generated"}
    run(node / "node_modules" / ".bin" / "openapi-ts", cwd=node, **output)
    run(node / "node_modules" / ".bin" / "tsc", "-p", ".", cwd=node)
    sent = run("node", "built/call.js", homeroom, ADMIN_KEY, batch("ts"), cwd=node)
    assert json.loads(sent)["accepted"] == 1


def test_a_generated_python_client_passes_mypy_and_sends(
    python: Path, homeroom: str, tmp_path: Path
) -> None:
    generate = ("generate", "--path", DOCUMENT, "--output-path", "generated", "--meta", "none")
    options = ("--config", SOURCE / "openapi-python-client.yaml", "--fail-on-warning")
    run(python / "openapi-python-client", *generate, *options, cwd=tmp_path)
    run(python / "mypy", "generated", cwd=tmp_path)
    sent = run(python / "python", "-c", CALL, homeroom, ADMIN_KEY, batch("py"), cwd=tmp_path)
    assert json.loads(sent)["accepted"] == 1
