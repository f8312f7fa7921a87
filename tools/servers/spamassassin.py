"""SpamAssassin's rules without the network: found or installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.servers.debian import found_or_installed

_SCORE = re.compile(r"^X-Spam-Status: \w+, score=(-?[\d.]+) .*?tests=([^ ]*)", re.MULTILINE)
_TIMEOUT_SECONDS = 300


def program() -> str:
    """Return where it is, installing it where that is possible; raise ``Missing``."""
    return found_or_installed("spamassassin", lambda: shutil.which("spamassassin"))


def score(mails: Sequence[bytes]) -> list[tuple[float, str]]:
    """Return the points of each mail and the names of the rules that gave them.

    Only local tests run: no list, no signature and no name is looked up.
    """
    mailbox = b"".join(b"From x Mon Nov 23 09:00:00 2026\n" + _escaped(mail) for mail in mails)
    with tempfile.TemporaryDirectory(prefix="homeroom-spamassassin-") as folder:
        preferences = Path(folder) / "user_prefs"
        preferences.write_text("use_bayes 0\nuse_auto_whitelist 0\nfold_headers 0\n")
        words = [program(), "--local", "--mbox", f"--prefspath={preferences}"]
        done = subprocess.run(
            words, input=mailbox, capture_output=True, timeout=_TIMEOUT_SECONDS, check=True
        )
    found = _SCORE.findall(done.stdout.decode(errors="replace"))
    if len(found) != len(mails):
        raise RuntimeError(f"{len(found)} of {len(mails)} mails were judged: {done.stderr!r}")
    return [(float(points), rules) for points, rules in found]


def _escaped(mail: bytes) -> bytes:
    """Return a mail as it is in a mailbox, where ``From `` begins the next one."""
    lines = mail.replace(b"\r\n", b"\n").split(b"\n")
    return b"\n".join(b">" + x if x.startswith(b"From ") else x for x in lines) + b"\n\n"
