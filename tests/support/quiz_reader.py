"""Read QTI 1.2 documents with pyslet: ``python quiz_reader.py FILE...`` prints JSON, a line a file.

It runs in a process of its own: the library is of 2017, and warns of things that are errors in
tests.
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any


def read_quiz(content: bytes) -> dict[str, Any]:
    """Return the title and the items of a quiz."""
    item, qti = import_module("pyslet.qtiv1.item"), import_module("pyslet.qtiv1.xml")
    document = qti.QTIDocument()
    document.read(src=content)
    quiz = document.root.Assessment
    items = [each for part in quiz.SectionMixin for each in part.SectionItemMixin]
    return {
        "title": quiz.title,
        "items": [
            {
                "id": each.ident,
                "title": each.title,
                "texts": [
                    text.get_value()
                    for text in each.find_children_depth_first(
                        import_module("pyslet.qtiv1.common").MatText
                    )
                ],
                "labels": [
                    label.ident for label in each.find_children_depth_first(item.ResponseLabel)
                ],
                "right": [
                    [found.get_value(), rule.SetVar[0].get_value()]
                    for rule in each.find_children_depth_first(item.RespCondition)
                    for found in rule.find_children_depth_first(
                        import_module("pyslet.qtiv1.common").VarEqual
                    )
                ],
            }
            for each in items
        ],
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name in sys.argv[1:]:
        print(json.dumps(read_quiz(Path(name).read_bytes())))
