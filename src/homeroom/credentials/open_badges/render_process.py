"""Child process that renders a certificate or a badge with typst.

``certificate.py`` runs ``python -m homeroom.credentials.open_badges.render_process FORM`` with JSON
on standard input and reads the file from standard output: typst and its fonts take memory that the
server shall not hold, and a picture that it cannot read ends this process alone.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import segno
import typst

HERE = Path(__file__).parent
_FONT_PACKAGES = ("fontpkg_noto_sans", "fontpkg_noto_sans_arabic")


def font_folders(extra: str | None) -> list[Path]:
    """Return the folders of the fonts, those of the school first."""
    folders = [] if extra is None else [Path(extra)]
    for name in _FONT_PACKAGES:
        spec = find_spec(name)
        if spec is not None:
            folders += [Path(place) for place in spec.submodule_search_locations or ()]
    return folders


def render(form: Literal["pdf", "png", "svg"], data: dict[str, Any]) -> bytes:
    """Return a certificate (``pdf``) or a badge (the others)."""
    template = "certificate.typ" if form == "pdf" else "badge.typ"
    with TemporaryDirectory(prefix="homeroom-certificate-") as folder:
        # typst reads files below its root alone; paths in SVG files lead nowhere else.
        root = Path(folder)
        source = root / template
        shutil.copyfile(HERE / template, source)
        for name in ("logo", "signature"):
            if data.get(name) is not None:
                file = Path(data[name])
                data[name] = f"{name}{file.suffix.lower()}"
                shutil.copyfile(file, root / data[name])
        if form == "pdf":
            code = io.BytesIO()
            segno.make(data["url"], error="m", micro=False).save(code, kind="svg", border=2)
            (root / "qr.svg").write_bytes(code.getvalue())
            data["qr"] = "qr.svg"
        content = typst.compile(
            source,
            root=root,
            format=form,
            ppi=144.0,
            font_paths=font_folders(data.pop("fonts", None)),
            ignore_system_fonts=True,
            sys_inputs={"data": json.dumps(data, ensure_ascii=False)},
            timestamp=data["timestamp"],
        )
    assert isinstance(content, bytes)  # a list only for several pages, which these never have
    return content


def main() -> None:
    """Render the JSON on standard input in the form of the first argument."""
    data = json.loads(sys.stdin.buffer.read())
    form = cast(Literal["pdf", "png", "svg"], sys.argv[1])
    sys.stdout.buffer.write(render(form, data))


if __name__ == "__main__":
    main()
