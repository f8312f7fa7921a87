"""The files of deploy/ are what Compose, Kubernetes and systemd take, down to every field."""

from __future__ import annotations

import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from tests.support.deploy_files import DEPLOY, UNITS, compose, documents, manifests, service

MODELS = {
    "v1": "cloudcoil.models.kubernetes.core.v1",
    "apps/v1": "cloudcoil.models.kubernetes.apps.v1",
    "batch/v1": "cloudcoil.models.kubernetes.batch.v1",
    "policy/v1": "cloudcoil.models.kubernetes.policy.v1",
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}
"""Where the model of each API version is that deploy/ uses."""
EXPOSURE = 20
"""At most 2.0 of 10 on systemd's scale, where 10 is a service without any protection."""


def unknown(given: Any, understood: Any, where: str = "") -> list[str]:
    """Return the places of what a model did not take over: it knows no such field."""
    if isinstance(given, dict) and isinstance(understood, dict):
        return [
            fault
            for key, value in given.items()
            for fault in (
                unknown(value, understood[key], f"{where}.{key}")
                if key in understood
                else [f"{where}.{key}"]
            )
        ]
    if isinstance(given, list) and isinstance(understood, list):
        return [
            fault
            for index, (one, other) in enumerate(zip(given, understood, strict=True))
            for fault in unknown(one, other, f"{where}[{index}]")
        ]
    return []


def checked(manifest: dict[str, Any]) -> list[str]:
    """Return the fields of an object that Kubernetes does not know; raise for wrong types."""
    model = getattr(import_module(MODELS[manifest["apiVersion"]]), manifest["kind"])
    read = model.model_validate(manifest)
    return unknown(manifest, read.model_dump(by_alias=True, exclude_unset=True, mode="json"))


def test_there_is_something_of_every_kind() -> None:
    kinds = {each["kind"] for _, each in manifests()}
    assert {"Deployment", "Service", "Job", "PodDisruptionBudget", "ScaledObject"} <= kinds
    assert {"ConfigMap", "Secret", "PodMonitor"} <= kinds


@pytest.mark.parametrize(
    "manifest", [pytest.param(each, id=f"{name}:{each['kind']}") for name, each in manifests()]
)
def test_kubernetes_knows_every_field(manifest: dict[str, Any]) -> None:
    assert checked(manifest) == []


def test_a_misspelt_field_of_kubernetes_would_be_found() -> None:
    [job] = documents(DEPLOY / "kubernetes" / "migrate" / "job.yaml")
    job["spec"]["template"]["spec"]["containers"][0]["arg"] = ["db"]
    assert checked(job) == [".spec.template.spec.containers[0].arg"]
    job["spec"]["backoffLimit"] = "often"
    with pytest.raises(ValueError, match="backoffLimit"):
        checked(job)


@pytest.mark.parametrize("folder", ["", "migrate", "autoscale"])
def test_kustomizations_list_every_file_beside_them(folder: str) -> None:
    there = DEPLOY / "kubernetes" / folder
    [listed] = documents(there / "kustomization.yaml")
    files = {path.name for path in there.glob("*.yaml") if "example" not in path.name}
    assert set(listed["resources"]) == files - {"kustomization.yaml"}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("scaled", [False, True])
def test_kubectl_builds_the_kustomization(scaled: bool, tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes")
    there = tmp_path / "kubernetes" / "kustomization.yaml"
    if scaled:
        there.write_text(there.read_text().replace("# components:", "components:"))
    built = subprocess.run(
        ["kubectl", "kustomize", str(there.parent)], capture_output=True, text=True, check=True
    )
    found = {
        (each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(built.stdout)
    }
    assert all(each["metadata"]["namespace"] == "homeroom" for each in found.values())
    worker = found["Deployment", "homeroom-worker"]
    assert worker["spec"]["template"]["spec"]["containers"][0]["image"] == "homeroom:0.1.0"
    assert ("replicas" in worker["spec"]) is not scaled
    assert (("ScaledObject", "homeroom-worker") in found) is scaled


def test_compose_knows_every_field() -> None:
    found = PyCompose.from_yaml(yaml.safe_dump(compose()))  # merged: it knows no anchors
    found.validate()
    assert set(found.service_names()) == {"api", "worker", "migrate", "postgres", "redis"}


def test_a_misspelt_field_of_compose_would_be_found() -> None:
    wrong = compose()
    wrong["services"]["api"]["readonly"] = True
    with pytest.raises(ValueError, match="readonly"):
        PyCompose.from_yaml(yaml.safe_dump(wrong))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong_with_a_unit(path: Path, tmp_path: Path) -> None:
    program = tmp_path / "homeroom"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    name = path.name.replace("@", "@1")
    copy = tmp_path / name
    # the program stands where the units say only once it is installed
    copy.write_text(path.read_text().replace("/opt/homeroom/bin/homeroom", str(program)))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in verified.stderr.splitlines() if name in line]
    assert (verified.returncode, complaints) == (0, []), verified.stderr
    secured = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert secured.returncode == 0, secured.stdout[-2_000:]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_gives_away_no_power(path: Path) -> None:
    found = service(path)
    assert found["CapabilityBoundingSet"] == ""
    assert found["NoNewPrivileges"] == "yes"
    assert found["ProtectSystem"] == "strict"
