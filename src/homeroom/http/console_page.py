"""The console in the browser, at ``/`` and below ``/console``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from homeroom.packaged_files import FilesMissing, packaged_folder

CONSOLE_PATH: Final = "/console"
_SHELL_PATHS: Final = ("/", "/admin/queues", CONSOLE_PATH, f"{CONSOLE_PATH}/{{path:path}}")
"""Paths that answer with the page; its script shows the part that the address names. The seed
documents call the page of queues ``/admin/queues``."""
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ONE_YEAR: Final = "public, max-age=31536000, immutable"
_NOT_BUILT: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Homeroom</title>
<main><h1>Homeroom</h1>
<p>Homeroom runs. Its console is not built in this checkout: run <code>make console</code>, which
needs Node.js and npm, and load this page again.</p>
<p>The HTTP API is described at <a href="/docs">/docs</a>.</p></main></html>
"""


class _Assets(StaticFiles):
    """Files whose names hold a hash of their contents, so that browsers keep them."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = _ONE_YEAR
        return response

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def add_console(api: FastAPI) -> None:
    """Add the page and its files; an unbuilt console says how to build it.

    The page holds no data and needs no token; the API decides what its reader may see.
    """
    try:
        folder = packaged_folder("console")
    except FilesMissing:
        _add_shell(api, None)
        return
    api.mount(f"{CONSOLE_PATH}/assets", _Assets(directory=folder / "assets"))

    async def icon() -> FileResponse:
        return FileResponse(folder / "icon.svg", media_type="image/svg+xml")

    api.add_api_route(f"{CONSOLE_PATH}/icon.svg", icon, include_in_schema=False)
    _add_shell(api, folder / "index.html")


def _add_shell(api: FastAPI, file: Path | None) -> None:
    """Answer with the page's HTML on all of its paths."""
    html = _NOT_BUILT if file is None else file.read_text()
    # A browser asks again each time: after an upgrade the page names other files.
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}

    async def shell() -> HTMLResponse:
        return HTMLResponse(html, headers=headers)

    for path in _SHELL_PATHS:
        api.add_api_route(path, shell, include_in_schema=False)
