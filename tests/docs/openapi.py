"""Write the OpenAPI document of a running server: ``python -m tests.docs.openapi``."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import httpx
from tests.support.homeroom_process import server


def document() -> str:
    """Return the document in the format of ``docs/openapi.json``."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        answer = httpx.get(f"{url}/openapi.json", trust_env=False, timeout=60).raise_for_status()
    return json.dumps(answer.json(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
