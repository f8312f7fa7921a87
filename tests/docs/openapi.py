"""Write the OpenAPI document of a running server: ``python -m tests.docs.openapi``."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import httpx
from tests.docs.serving import server


def document() -> str:
    """Return the document as it is kept in ``docs/openapi.json``."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        answer = httpx.get(f"{url}/openapi.json", trust_env=False).raise_for_status()
    return json.dumps(answer.json(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
