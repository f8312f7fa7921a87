"""Escape text for people who open it in a spreadsheet."""

import re

_FORMULA_CHARACTERS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_CELL_START = re.compile(rf"(\A|[;\t\r\n])(?=[{_FORMULA_CHARACTERS}\t\r\n])")
"""The places where a cell may begin: spreadsheets of some countries divide at semicolons."""


BYTE_ORDER_MARK = "\ufeff"
"""The first character of every CSV file: without it Excel does not read UTF-8."""


def escape_formula(text: str) -> str:
    """Return text that no spreadsheet reads as a formula.

    A formula could fetch URLs or run programs (OWASP: CSV injection). The apostrophe before it is
    the mark that spreadsheets themselves use for text.
    """
    return _CELL_START.sub(r"\1'", text)
