"""The formats that need a library of their own, made in a process of its own.

The libraries for documents, PDF, calendars and cartridges take 40 MB of memory and are used now and
then: a server keeps that memory, and is not there any more if one of them crashes. So
``export.format`` starts ``python -m homeroom.lessonplans.export.press FORMAT``, which reads a
pickled plan from its standard input and writes the file to its standard output.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Mapping

from homeroom.lessonplans.export import calendar, cartridge, pdf, word
from homeroom.lessonplans.plan import Plan

MAKERS: Mapping[str, Callable[[Plan], bytes]] = {
    "docx": word.export,
    "pdf": pdf.export,
    "ics": calendar.export,
    "imscc": cartridge.export,
}


def main() -> None:
    """Make the file that ``format`` asks for."""
    plan = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the pipe of the process above
    sys.stdout.buffer.write(MAKERS[sys.argv[1]](plan))


if __name__ == "__main__":
    main()
