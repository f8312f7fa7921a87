"""The page ``/docs``, which shows the OpenAPI document and sends requests."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

DOCS_PATH = "/docs"
_FILES_PATH = f"{DOCS_PATH}/files"
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def add_docs_page(api: FastAPI, *, document: str) -> None:
    """Add the page and its files to ``api``; ``document`` is the path of its OpenAPI."""
    response = get_swagger_ui_html(
        openapi_url=document,
        title="Homeroom API",
        swagger_js_url=f"{_FILES_PATH}/swagger-ui-bundle.js",
        swagger_css_url=f"{_FILES_PATH}/swagger-ui.css",
        swagger_favicon_url=f"{_FILES_PATH}/favicon-32x32.png",
    )
    page = bytes(response.body)
    policy = _content_security_policy(page)

    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    api.add_api_route(DOCS_PATH, docs, include_in_schema=False)
    api.mount(_FILES_PATH, StaticFiles(directory=str(files("fastapi_swagger") / "resources")))


def _content_security_policy(page: bytes) -> str:
    """Return the policy of the page: its own files, and its inline script by hash."""
    hashes = [hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(page)]
    scripts = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in hashes)
    return (
        f"default-src 'self'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline';"
        " img-src 'self' data:; frame-ancestors 'none'"
    )
