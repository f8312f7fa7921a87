"""Slashes within ids of a path, which clients send as ``%2F``.

Ids of Moodle, of xAPI and of many registers are URLs. The server decodes a path before the routes
see it, so that an encoded slash divided it like any other, and no route reached the record.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

_ENCODED_SLASH = re.compile(rb"%2[fF]")
_STAND_IN = "\udc2f"
"""Half of a surrogate pair: no decoded path holds one, and no id may."""


class EncodedSlashes:
    """Match routes with the encoded slashes of a path kept apart from its own."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application whose routes depend on ``restore_slashes``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        raw = scope.get("raw_path") or b""
        parts = _ENCODED_SLASH.split(raw) if scope["type"] == "http" else [raw]
        if len(parts) > 1:
            scope["path"] = _STAND_IN.join(unquote(part.decode("latin-1")) for part in parts)
        await self._app(scope, receive, send)


async def restore_slashes(request: Request) -> None:
    """Put slashes back into the path parameters; runs before a route reads them."""
    parameters = request.scope["path_params"]
    for name, value in parameters.items():
        if isinstance(value, str) and _STAND_IN in value:
            parameters[name] = value.replace(_STAND_IN, "/")
