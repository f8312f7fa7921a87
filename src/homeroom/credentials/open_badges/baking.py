"""Credentials embedded in PNG and SVG, as Open Badges describes it (pure)."""

from __future__ import annotations

import re
import struct
import zlib

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"openbadgecredential"
_SVG_NAMESPACE = "https://purl.imsglobal.org/ob/v3p0"
_SVG_TAG = re.compile(r"<svg\b[^>]*>")


def bake_png(image: bytes, jws: str) -> bytes:
    """Return a PNG with a compact JWS in it.

    It is an uncompressed ``iTXt`` chunk after the header. Raises ValueError for an image that is
    no PNG.
    """
    if not image.startswith(_PNG_SIGNATURE):
        raise ValueError("the image is no PNG")
    header_end = len(_PNG_SIGNATURE) + 12 + int.from_bytes(image[8:12])
    # Keyword, NUL, no compression, its method, no language and no translation of the keyword.
    chunk = b"iTXt" + _KEYWORD + b"\0\0\0\0\0" + jws.encode()
    packed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return image[:header_end] + packed + image[header_end:]


def bake_svg(image: str, jws: str) -> str:
    """Return an SVG with a compact JWS in an element at its beginning.

    Raises ValueError for text without an ``svg`` element.
    """
    found = _SVG_TAG.search(image)
    if found is None:
        raise ValueError("the image is no SVG")
    tag = f'{found[0][:-1]} xmlns:openbadges="{_SVG_NAMESPACE}">'
    credential = f'<openbadges:credential verify="{jws}"/>'
    return image[: found.start()] + tag + credential + image[found.end() :]
