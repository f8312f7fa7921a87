"""The contract with clients changes only on purpose."""

import json
import re
from pathlib import Path

import pytest
from tests.docs.openapi import document

KEPT = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"

pytestmark = pytest.mark.service


def test_the_openapi_document_is_the_one_that_is_kept() -> None:
    found, kept = json.loads(document()), json.loads(KEPT.read_text(encoding="utf-8"))
    hint = "if that is intended: .venv/bin/python -m tests.docs.openapi > docs/openapi.json"
    assert found["paths"].keys() == kept["paths"].keys(), hint
    for path, item in found["paths"].items():
        assert item == kept["paths"][path], f"{path} changed; {hint}"
    for name, schema in found["components"]["schemas"].items():
        assert schema == kept["components"]["schemas"].get(name), f"{name} changed; {hint}"
    assert found == kept, hint


def test_the_parts_of_every_path_are_in_camel_case() -> None:
    parts = {
        part for path in json.loads(document())["paths"] for part in re.findall(r"{(.*?)}", path)
    }
    assert {part for part in parts if not re.fullmatch(r"[a-z][a-zA-Z0-9]*", part)} == set()


def test_every_field_parameter_and_group_is_described() -> None:
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    bare = []
    for name, schema in kept["components"]["schemas"].items():
        bare += [name] if not schema.get("description") else []
        bare += [
            f"{name}.{field}"
            for field, part in schema.get("properties", {}).items()
            if not part.get("description")
        ]
    used = set()
    for path, item in kept["paths"].items():
        for operation in item.values():
            used |= set(operation["tags"])
            parameters = operation.get("parameters", [])
            bare += [f"{path} {each['name']}" for each in parameters if not each["description"]]
            assert "authorization" not in {each["name"] for each in parameters}
    assert bare == []
    assert {tag["name"] for tag in kept["tags"] if tag["description"]} == used
