"""Child process that hashes documents for their proofs (``eddsa-rdfc-2022``).

``proof_hasher.py`` runs ``python -m homeroom.credentials.open_badges.proof_hash``. Each line on
standard input is a JSON array of a document and its proof's options, and each line on standard
output is ``ok`` and the hash in hexadecimal, or ``error`` and a reason. The process ends with its
input. It keeps the JSON-LD library and its 3 to 10 ms of processor time a document away from
requests, and holds no key.

The suite (https://www.w3.org/TR/vc-di-eddsa/) hashes the proof's options and the document, each
canonicalized as RDF (RDFC-1.0). Contexts are files of this package: nothing is fetched, and a
document with another context is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from pyld import ContextResolver, jsonld

from homeroom.credentials.open_badges.badge_document import (
    CREDENTIALS_CONTEXT,
    OPEN_BADGES_CONTEXT,
)

_CONTEXT_FILES = {
    CREDENTIALS_CONTEXT: "credentials-v2.jsonld",
    OPEN_BADGES_CONTEXT: "open-badges-3.0.3.jsonld",
}
_NICENESS = 10
"""Requests of the server go first where processors are short."""


def hash_for_proof(document: Mapping[str, Any], options: Mapping[str, Any]) -> bytes:
    """Return the 64 bytes that a proof signs.

    ``options`` are the members of the proof without ``proofValue``. Raises ValueError for a
    document of other contexts.
    """
    parts = ({"@context": document["@context"], **options}, document)
    try:
        return b"".join(hashlib.sha256(_canonical(part)).digest() for part in parts)
    except jsonld.JsonLdError as error:
        raise ValueError("the document is no JSON-LD of known contexts") from error


def _canonical(document: Mapping[str, Any]) -> bytes:
    text: str = jsonld.normalize(
        dict(document),
        {
            "algorithm": "URDNA2015",
            "format": "application/n-quads",
            "documentLoader": _load_context,
            "contextResolver": _context_resolver(),
        },
    )
    return text.encode()


@cache
def _context_resolver() -> ContextResolver:
    """Return the resolver that keeps processed contexts: they cost most."""
    return ContextResolver({}, _load_context)


@cache
def read_context(url: str) -> dict[str, Any]:
    """Return a JSON-LD context from the files here; raise ValueError for others."""
    if url not in _CONTEXT_FILES:
        raise ValueError(f"the context {url} is none of Open Badges")
    path = files("homeroom") / "third_party" / "contexts" / _CONTEXT_FILES[url]
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _load_context(url: str, _options: object = None) -> dict[str, Any]:
    return {
        "contentType": "application/ld+json",
        "contextUrl": None,
        "documentUrl": url,
        "document": read_context(url),
    }


def _response(line: bytes) -> str:
    try:
        document, options = json.loads(line)
        return f"ok {hash_for_proof(document, options).hex()}"
    except Exception as error:  # a document that cannot be hashed ends no process
        return f"error {type(error).__name__}"


def main() -> None:
    """Respond line by line until the input ends, which it does with the server."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Where the server was killed there is no reader, and nothing to say in its log.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.nice(_NICENESS)
    for line in sys.stdin.buffer:
        sys.stdout.write(f"{_response(line)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
