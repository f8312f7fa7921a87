"""Code that nothing uses is removed: vulture finds it, with what frameworks call left out."""

from __future__ import annotations

from pathlib import Path

import vulture

ROOT = Path(__file__).resolve().parents[2]
CALLED_BY_FRAMEWORKS = [
    "@*.command",
    "@*.callback",
    "@*.get",
    "@*.put",
    "@*.post",
    "@*.patch",
    "@*.delete",
    "@*_validator",
    "@*_serializer",
    "@compiles",
    "@contextmanager",
]
# What other programs look for by name: uvicorn, logging, aiosmtpd, asyncio, enum.
LOOKED_UP_BY_NAME = [
    "send_400_response",  # called by uvicorn
    "__getattr__",
    "auth_*",
    "capture_signals",
    "connection_*",
    "data_received",
    "eof_received",
    "format_commands",
    "handleError",
    "handle_*",
    "list_commands",
    "on_*",
    "pause_writing",
    "resume_writing",
    "settings_customise_sources",
    "smtp_*",
    "visit_*",
]
KINDS = {"class", "function", "import", "method", "property", "unreachable_code"}


def unused(paths: list[Path]) -> list[str]:
    """Return what nothing in these files uses, as ``file:line name``; fields of types apart."""
    finder = vulture.Vulture(ignore_decorators=CALLED_BY_FRAMEWORKS, ignore_names=LOOKED_UP_BY_NAME)
    finder.scavenge([str(path) for path in paths], exclude=["*/migrations/*"])
    return [
        f"{item.filename}:{item.first_lineno} {item.name}"
        for item in finder.get_unused_code(min_confidence=60)
        if item.typ in KINDS
    ]


def test_no_code_is_unused() -> None:
    source = (ROOT / "src").as_posix()
    found = unused([ROOT / folder for folder in ("src", "tests", "bench", "tools")])
    assert [each for each in found if each.startswith(source)] == []


def test_an_unused_function_is_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def used():\n    return 1\n\n\ndef forgotten():\n    return used()\n")
    assert [each.split()[-1] for each in unused([module])] == ["forgotten"]
