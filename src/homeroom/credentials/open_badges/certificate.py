"""Certificates and badge images: rendered on demand, cached, limited."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

from homeroom.clock import Clock
from homeroom.credentials.open_badges.badge_document import IssuerProfile
from homeroom.credentials.open_badges.baking import bake_png, bake_svg
from homeroom.errors import HomeroomError, TooBusy
from homeroom.instant import SECOND, to_datetime

log = structlog.get_logger(__name__)
ImageForm = Literal["pdf", "png", "svg"]
MEDIA_TYPES: dict[ImageForm, str] = {
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
}
RENDER_TIMEOUT_SECONDS = 20.0
"""Timeout of the render process; it takes 0.3 s."""
MAX_CACHED_BYTES = 16 * 1024 * 1024
_MAX_WAITING = 16
_LIMIT_WINDOW = 60 * SECOND
_MAX_ADDRESSES = 10_000


@dataclass(frozen=True, slots=True)
class CertificateStyle:
    """The school's own look; paths are files, a folder for ``fonts``."""

    colour: str = "#1f4e79"
    logo: Path | None = None
    signature: Path | None = None
    signatory: str | None = None
    fonts: Path | None = None


@dataclass(frozen=True, slots=True)
class CertificateText:
    """The text of a certificate. Instants are microseconds UTC."""

    url: str
    title: str
    holder: str | None
    """None: the holder does not want to be named."""
    completed_at: int
    valid_until: int | None
    evidence: tuple[tuple[str, str], ...]
    jws: str
    """The credential that the badge images carry."""
    verb: Literal["completed", "achieved"] = "completed"
    """What the holder has done: completed a course, or achieved what a rule asks for."""


def format_day(instant: int) -> str:
    """Return the day of an instant as a reader writes it, in UTC."""
    moment = to_datetime(instant)
    return f"{moment.day} {moment:%B %Y}"


class AddressLimit:
    """A limit of the work that an address may cause within a minute."""

    def __init__(self, clock: Clock, per_minute: int) -> None:
        """Count by this clock."""
        self._clock, self._per_minute = clock, per_minute
        self._window = 0
        self._counts: Counter[str] = Counter()

    def spend(self, address: str) -> None:
        """Count one piece of work; raise ``TooBusy`` where the address had its share."""
        window = self._clock.now() // _LIMIT_WINDOW
        if window != self._window or len(self._counts) > _MAX_ADDRESSES:
            self._window = window
            self._counts.clear()
        if self._counts[address] >= self._per_minute:
            raise TooBusy(
                "This address has asked for too many files; ask again in a minute.",
                retry_after_seconds=60,
            )
        self._counts[address] += 1


class CertificateFiles:
    """The files of credentials, in a cache of bounded size."""

    def __init__(
        self,
        profile: IssuerProfile,
        style: CertificateStyle,
        clock: Clock,
        *,
        per_minute: int = 20,
    ) -> None:
        """Render in a style; ``per_minute`` limits the renderings of an address."""
        self._profile, self._style = profile, style
        self.limit = AddressLimit(clock, per_minute)
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._slot = asyncio.Semaphore(1)
        self._waiting = 0

    async def get(self, text: CertificateText, form: ImageForm, address: str) -> bytes:
        """Return a file, rendered if it is not cached. Raises ``TooBusy``.

        The same text gives the same file, so a change of the holder's wishes gives another one.
        """
        key = hashlib.sha256(repr((form, text)).encode()).hexdigest()
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        if self._waiting >= _MAX_WAITING:
            raise TooBusy(retry_after_seconds=5)
        self.limit.spend(address)
        self._waiting += 1
        try:
            async with self._slot:
                if key not in self._cache:
                    self._keep(key, await asyncio.to_thread(self.render, text, form))
        finally:
            self._waiting -= 1
        return self._cache[key]

    def _keep(self, key: str, content: bytes) -> None:
        self._cache[key] = content
        self._cached_bytes += len(content)
        while self._cached_bytes > MAX_CACHED_BYTES and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= len(oldest)

    def render(self, text: CertificateText, form: ImageForm) -> bytes:
        """Return a file; blocks the calling thread for 0.3 s.

        Raises ``HomeroomError`` if it cannot be rendered, such as for a logo that is no picture.
        """
        content = _render_in_process(form, self._data(text))
        if form == "png":
            return bake_png(content, text.jws)
        if form == "svg":
            return bake_svg(content.decode(), text.jws).encode()
        return content

    def _data(self, text: CertificateText) -> dict[str, Any]:
        style = self._style
        lines = [f"{text.verb.capitalize()} on {format_day(text.completed_at)}"]
        if text.valid_until is not None:
            lines.append(f"Valid until {format_day(text.valid_until)}")
        lines += [f"{name}: {value}" for name, value in text.evidence]
        return {
            "title": text.title,
            "issuer": self._profile.name,
            "holder": text.holder or "the holder of this certificate",
            "colour": style.colour,
            "logo": None if style.logo is None else str(style.logo),
            "signature": None if style.signature is None else str(style.signature),
            "signatory": style.signatory,
            "fonts": None if style.fonts is None else str(style.fonts),
            "verb": text.verb,
            "lines": lines,
            "url": text.url,
            "timestamp": text.completed_at // SECOND,
        }


def _render_in_process(form: ImageForm, data: dict[str, Any]) -> bytes:
    command = [sys.executable, "-m", "homeroom.credentials.open_badges.render_process", form]
    try:
        done = subprocess.run(  # noqa: S603 - our own module and a known form
            command,
            input=json.dumps(data).encode(),
            capture_output=True,
            timeout=RENDER_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise HomeroomError(
            f"Rendering the {form} file took longer than {RENDER_TIMEOUT_SECONDS:g} s."
        ) from error
    if done.returncode != 0:
        stderr = done.stderr.decode(errors="replace")[-4_000:]
        log.error("certificate_failed", format=form, error=stderr)
        raise HomeroomError(
            f"The {form} file could not be rendered.",
            hint="The log has the error: search it for certificate_failed.",
        )
    return done.stdout
