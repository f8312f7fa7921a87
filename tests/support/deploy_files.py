"""Read the files of deploy/ into what the tests compare."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found is not None]


def manifests() -> list[tuple[str, dict[str, Any]]]:
    """Return the objects for Kubernetes with the file of each, without the kustomizations."""
    return [
        (path.relative_to(DEPLOY).as_posix(), each)
        for path in sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
        if path.name != "kustomization.yaml"
        for each in documents(path)
    ]


def pods() -> dict[str, dict[str, Any]]:
    """Return the pod specifications by the name of what makes the pods."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for _, each in manifests()
        if each["kind"] in {"Deployment", "Job"}
    }


def compose() -> dict[str, Any]:
    """Return the Compose file, its anchors followed."""
    [found] = documents(DEPLOY / "compose.yaml")
    return found


def environment(path: Path) -> dict[str, str]:
    """Return the variables of an environment file."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def unit(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Return the sections of a unit; a key may come several times."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            name = line.strip("[]")
            sections[name] = []
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            sections[name].append((key, value))
    return sections


def service(path: Path) -> dict[str, str]:
    """Return the last value of each key of a unit's section Service."""
    return dict(unit(path)["Service"])


def instructions(stage: str | None = None) -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, of one stage or of all; the last is `server`."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    found: list[tuple[str, str]] = []
    current = ""
    for line in filter(str.strip, lines):
        name, rest = line.split(" ", 1)
        if name == "FROM":
            current = rest.partition(" AS ")[2] or "server"
        if stage in (None, current):
            found.append((name, rest.strip()))
    return found


def image_environment() -> dict[str, str]:
    """Return what the image sets."""
    set_there = [rest for name, rest in instructions("server") if name == "ENV"]
    return dict(word.split("=", 1) for rest in set_there for word in shlex.split(rest))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every command line of Homeroom in deploy/ with where it stands."""
    for name, each in compose()["services"].items():
        if each["image"].startswith("homeroom"):
            yield f"compose.yaml: {name}", each["command"]
    for name, pod in pods().items():
        for container in pod["containers"]:
            yield f"kubernetes: {name}", container["args"]
    for path in UNITS:
        yield path.name, service(path)["ExecStart"].split()[1:]
    [default] = [rest for name, rest in instructions("server") if name == "CMD"]
    yield "Dockerfile", yaml.safe_load(default)
