"""The page that shows the API: Swagger UI, with nothing on it that comes from another server.

Sign-in leads here, so whoever could change its scripts would act with an operator's session; and a
machine without a way to the Internet shows it all the same.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

PATH = "/docs"
_FILES = f"{PATH}/files"
_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def add_docs(api: FastAPI, *, document: str) -> None:
    """Add the page and its files to an application; ``document`` is where its OpenAPI is."""
    found = get_swagger_ui_html(
        openapi_url=document,
        title="Homeroom API",
        swagger_js_url=f"{_FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{_FILES}/swagger-ui.css",
        swagger_favicon_url=f"{_FILES}/favicon-32x32.png",
    )
    page = bytes(found.body)
    policy = _policy(page)

    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    api.add_api_route(PATH, docs, include_in_schema=False)
    api.mount(_FILES, StaticFiles(directory=str(files("fastapi_swagger") / "resources")))


def _policy(page: bytes) -> str:
    """Return what the page may load and run: our own files, and the script that stands in it."""
    hashes = [hashlib.sha256(script).digest() for script in _SCRIPT.findall(page)]
    scripts = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in hashes)
    return (
        f"default-src 'self'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline';"
        " img-src 'self' data:; frame-ancestors 'none'"
    )
