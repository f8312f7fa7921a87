"""Text that people open in a spreadsheet."""

import re

_FORMULA = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_BEGINS = re.compile(rf"(\A|[;\t\r\n])(?=[{_FORMULA}\t\r\n])")
"""Where a cell may begin: spreadsheets of some countries divide at semicolons."""


def harmless(text: str) -> str:
    """Return text that no spreadsheet takes for a formula, which could reach out or run things.

    An apostrophe before it is what spreadsheets themselves write for "this is text" (OWASP: CSV
    injection).
    """
    return _BEGINS.sub(r"\1'", text)
