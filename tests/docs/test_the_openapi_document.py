"""The contract with clients changes only where somebody meant it to."""

import json
import re
from pathlib import Path

import pytest
from tests.docs.openapi import document

KEPT = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"

pytestmark = pytest.mark.service


def test_the_openapi_document_is_the_one_that_is_kept() -> None:
    found, kept = json.loads(document()), json.loads(KEPT.read_text(encoding="utf-8"))
    told = "if that is meant: .venv/bin/python -m tests.docs.openapi > docs/openapi.json"
    assert found["paths"].keys() == kept["paths"].keys(), told
    for path, item in found["paths"].items():
        assert item == kept["paths"][path], f"{path} changed; {told}"
    for name, schema in found["components"]["schemas"].items():
        assert schema == kept["components"]["schemas"].get(name), f"{name} changed; {told}"
    assert found == kept, told


def test_the_parts_of_every_path_are_in_camel_case() -> None:
    parts = {
        part for path in json.loads(document())["paths"] for part in re.findall(r"{(.*?)}", path)
    }
    assert {part for part in parts if not re.fullmatch(r"[a-z][a-zA-Z0-9]*", part)} == set()
