"""Ports, paths, settings, signals, times and exit codes of deploy/ are those of the program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from tests.support.deploy_files import (
    DEPLOY,
    ROOT,
    UNITS,
    commands,
    compose,
    documents,
    environment,
    image_environment,
    instructions,
    manifests,
    pods,
    service,
)
from typer.core import TyperGroup

from homeroom import __version__
from homeroom.cli import app
from homeroom.errors import ConfigurationError
from homeroom.http.supervisor import KILL_AFTER_GRACE_SECONDS
from homeroom.jobs.api import JobState
from homeroom.monitoring.metrics import Metrics
from homeroom.settings import find_setting_problems, list_settings, load

SETTINGS = {row.name for row in list_settings(load())}
API_PORT, WORKER_PORT = 8420, 8421
GRACE_SECONDS = load().shutdown_grace.total_seconds()
EXAMPLE = environment(DEPLOY / "homeroom.env.example")
TEXTS = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(DEPLOY).as_posix())
def test_every_setting_that_is_named_exists(path: Path) -> None:
    named = set(re.findall(r"\bHOMEROOM_[A-Z_]*[A-Z]\b", path.read_text()))
    assert named <= SETTINGS


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(DEPLOY).as_posix())
def test_no_file_names_a_registry(path: Path) -> None:
    assert not re.search(r"index-url|find-links|docker\.io|ghcr\.io|pypi\.org", path.read_text())


def test_examples_are_settings_that_a_server_runs_with_and_their_passwords_agree() -> None:
    read = load(**{name.removeprefix("HOMEROOM_").lower(): text for name, text in EXAMPLE.items()})
    assert [
        each for each in find_setting_problems(read, {}) if "DATABASE_URL" not in each.setting
    ] == []
    postgres = environment(DEPLOY / "postgres.env.example")
    user, password = postgres["POSTGRES_USER"], postgres["POSTGRES_PASSWORD"]
    place = f"postgresql://{user}:{password}@postgres:5432/{postgres['POSTGRES_DB']}"
    assert EXAMPLE["HOMEROOM_DATABASE_URL"] == place
    redis = environment(DEPLOY / "redis.env.example")["REDIS_PASSWORD"]
    assert EXAMPLE["HOMEROOM_QUEUE_URL"] == f"redis://:{redis}@redis:6379/0"
    assert all("change-me" in password for password in (postgres["POSTGRES_PASSWORD"], redis))


def test_every_command_exists_with_its_options() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    found = list(commands())
    assert len(found) == 9
    for where, words in found:
        words = list(words)
        command: Any = root.commands[words.pop(0)]
        while isinstance(command, TyperGroup):
            command = command.commands[words.pop(0)]
        options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= options, where


def test_ports_are_the_same_everywhere() -> None:
    assert load().port == API_PORT
    assert image_environment()["HOMEROOM_PORT"] == str(API_PORT)
    assert ("EXPOSE", f"{API_PORT} {WORKER_PORT}") in instructions()
    [probe] = [rest for name, rest in instructions() if name == "HEALTHCHECK"]
    assert f"127.0.0.1:{API_PORT}/healthz" in probe
    services = compose()["services"]
    assert services["api"]["ports"] == [f"127.0.0.1:{API_PORT}:{API_PORT}"]
    assert services["worker"]["environment"]["HOMEROOM_WORKER_PORT"] == str(WORKER_PORT)
    assert f"127.0.0.1:{WORKER_PORT}/healthz" in services["worker"]["healthcheck"]["test"][-1]
    for name, port in (("homeroom-api", API_PORT), ("homeroom-worker", WORKER_PORT)):
        [container] = pods()[name]["containers"]
        assert container["ports"] == [{"name": "http", "containerPort": port}]
        for probe_name in ("startupProbe", "livenessProbe"):
            assert container[probe_name]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert pods()["homeroom-worker"]["containers"][0]["args"][-1] == str(WORKER_PORT)
    [api] = pods()["homeroom-api"]["containers"]
    assert api["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_paths_are_the_same_everywhere() -> None:
    [entry] = [rest for name, rest in instructions() if name == "ENTRYPOINT"]
    assert yaml.safe_load(entry) == ["homeroom"]
    data = image_environment()["HOMEROOM_DATA_DIR"]
    assert ("VOLUME", data) in instructions()
    assert image_environment()["PATH"].split(":")[0] == "/opt/homeroom/bin"
    for path in UNITS:
        assert service(path)["ExecStart"].startswith("/opt/homeroom/bin/homeroom ")
        assert service(path)["StateDirectory"] == Path(data).name
        assert f"HOMEROOM_DATA_DIR={data}" in path.read_text()


def test_whoever_stops_a_process_waits_longer_than_it_takes() -> None:
    needed = GRACE_SECONDS + KILL_AFTER_GRACE_SECONDS
    for path in UNITS:
        assert int(service(path)["TimeoutStopSec"]) > needed
        assert service(path)["KillMode"] == "mixed"
    for name in ("api", "worker"):
        assert int(compose()["services"][name]["stop_grace_period"].removesuffix("s")) > needed
    for name in ("homeroom-api", "homeroom-worker"):
        pod = pods()[name]
        [container] = pod["containers"]
        asleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        assert pod["terminationGracePeriodSeconds"] > needed + asleep.get("seconds", 0)
    assert ("STOPSIGNAL", "SIGTERM") in instructions()


def test_a_faulty_configuration_is_not_tried_again() -> None:
    code = ConfigurationError.exit_code
    for path in UNITS:
        assert service(path)["RestartPreventExitStatus"] == str(code)
        assert service(path)["Restart"] == "on-failure"
    [job] = documents(DEPLOY / "kubernetes" / "migrate" / "job.yaml")
    [rule] = job["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [code])


def test_nothing_runs_as_root() -> None:
    assert ("USER", "10001:10001") in instructions("server")
    for pod in pods().values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            inner = container["securityContext"]
            assert inner["allowPrivilegeEscalation"] is False
            assert inner["capabilities"] == {"drop": ["ALL"]}
    for each in compose()["services"].values():
        if each["image"].startswith("homeroom"):
            assert each["cap_drop"] == ["ALL"]
    assert {service(path)["User"] for path in UNITS} == {"homeroom"}


def test_images_are_of_this_release() -> None:
    images = {each["image"] for each in compose()["services"].values()}
    assert f"homeroom:{__version__}" in images
    for folder in ("", "migrate"):
        [found] = documents(DEPLOY / "kubernetes" / folder / "kustomization.yaml")
        assert found["images"] == [{"name": "homeroom", "newTag": __version__}]


def test_pods_find_their_configuration_and_selectors_find_their_pods() -> None:
    named = {(each["kind"], each["metadata"]["name"]): each for _, each in manifests()}
    for pod in pods().values():
        for container in pod["containers"]:
            for source in container["envFrom"]:
                kind = "ConfigMap" if "configMapRef" in source else "Secret"
                [reference] = source.values()
                assert (kind, reference["name"]) in named
    for (kind, name), each in named.items():
        if kind == "Deployment":
            labels = each["spec"]["template"]["metadata"]["labels"]
            assert each["spec"]["selector"]["matchLabels"] == labels
            assert named["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"] == labels
    api = named["Deployment", "homeroom-api"]["spec"]["selector"]["matchLabels"]
    assert named["Service", "homeroom-api"]["spec"]["selector"] == api
    secret = named["Secret", "homeroom"]["stringData"]
    assert {**secret, **named["ConfigMap", "homeroom"]["data"]}.keys() <= SETTINGS


def test_workers_are_scaled_by_a_metric_that_is_there() -> None:
    [scaled] = [each for _, each in manifests() if each["kind"] == "ScaledObject"]
    assert ("Deployment", scaled["spec"]["scaleTargetRef"]["name"]) in {
        (each["kind"], each["metadata"]["name"]) for _, each in manifests()
    }
    [trigger] = scaled["spec"]["triggers"]
    asked = re.search(r'(homeroom_\w+)\{(\w+)=~"([^"]+)"\}', trigger["metadata"]["query"])
    assert asked is not None
    metrics = Metrics()
    metrics.set_job_counts({"dispatch": {state.value: 1 for state in JobState}})
    sample = re.compile(rf'^{asked[1]}{{.*{asked[2]}="(?:{asked[3]})".*}} 1.0$', re.MULTILINE)
    assert len(sample.findall(metrics.render().decode())) == len(asked[3].split("|"))
    assert int(trigger["metadata"]["threshold"]) == 2 * load().concurrency
    [monitor] = [each for _, each in manifests() if each["kind"] == "PodMonitor"]
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics"
    [secret] = [
        each
        for _, each in manifests()
        if each["metadata"]["name"] == endpoint["authorization"]["credentials"]["name"]
    ]
    assert endpoint["authorization"]["credentials"]["key"] in secret["stringData"]


def test_env_files_with_secrets_are_not_committed() -> None:
    assert "/deploy/*.env" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    copied = [
        source
        for stage in ("console", "build")
        for name, rest in instructions(stage)
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    sent = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    unsent = [
        source
        for source in copied
        if not any(each == source or each.startswith(f"{source}/") for each in sent)
    ]
    assert unsent == []
