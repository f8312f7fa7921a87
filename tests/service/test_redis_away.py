"""Redis that is unreachable, with a password, with TLS, or behind Sentinels."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.support.condition import until_async
from tests.support.homeroom_process import homeroom_command
from tests.support.partner_school import COURSE, running_sandbox
from tests.support.redis_server import running_redis
from tools.servers.port import free_port
from tools.servers.redis import RedisServer, program

from homeroom.bootstrap import job_engine
from homeroom.bootstrap.job_engine import check_redis
from homeroom.clock import Clock
from homeroom.demo.subprocesses import ChildProcess, ServerProcess
from homeroom.errors import ConfigurationError
from homeroom.instant import to_datetime
from homeroom.settings import Settings, load

pytestmark = [pytest.mark.anyio, pytest.mark.service]
TIMEOUT_SECONDS = 60.0
ADMIN = {"authorization": "Bearer an-admin-key-for-redis"}


async def test_progress_is_accepted_during_an_outage_and_delivered_after_it(
    tmp_path: Path,
) -> None:
    async with running_sandbox() as sandbox:
        with running_redis(tmp_path) as redis:
            settings = {
                **{name: value for name, value in sandbox.settings.items() if "DIR" not in name},
                "HOMEROOM_DATA_DIR": str(tmp_path),
                "HOMEROOM_PORT": str(free_port()),
                "HOMEROOM_ADMIN_KEY": "an-admin-key-for-redis",
                "HOMEROOM_QUEUE_URL": redis.url,
                "HOMEROOM_LOG_FORMAT": "json",
            }
            server = ServerProcess(settings, tmp_path / "server.log", worker=False)
            worker = ChildProcess(
                "worker", ["homeroom", "worker"], settings, tmp_path / "worker.log"
            )
            try:
                await server.open()
                await worker.start()
                async with httpx.AsyncClient(
                    base_url=server.url, headers=ADMIN, timeout=30, trust_env=False
                ) as api:
                    await _walk_through_an_outage(api, redis, tmp_path / "worker.log")
            finally:
                await server.stop()
                await worker.stop()
        received = await sandbox.received("analytics")
    assert len(received) == 1
    for name in ("server", "worker"):
        events = _events(tmp_path / f"{name}.log")
        redis_events = [event for event in events if event.startswith("redis_")]
        assert redis_events == ["redis_unavailable", "redis_recovered"], name
        assert len(events) < 60, "no flood"


def _events(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["event"] for line in lines if line.startswith("{")]


async def _walk_through_an_outage(
    api: httpx.AsyncClient, redis: RedisServer, worker_log: Path
) -> None:
    (await api.put("/api/v1/courses/data", json=COURSE)).raise_for_status()

    async def has_worker() -> bool:
        return bool((await api.get("/readyz")).json()["status"] == "ok")

    await until_async(has_worker)
    redis.stop(signal.SIGKILL)
    event = {
        "id": "one",
        "userId": "ada",
        "courseId": "data",
        "chapterId": "c1",
        "eventType": "chapter_complete",
        "progress": 100,
        "timestamp": "2026-01-02T03:04:05Z",
    }
    answer = await api.post("/api/progress/enhanced-update", json={"events": [event]})
    assert answer.status_code == 200
    ready = await api.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"
    detail = ready.json()["checks"]["redis"]["detail"]
    assert "Redis cannot be used" in detail
    assert "127.0.0.1" not in detail, "readiness is public"
    [completion] = (await api.get("/api/v1/completions")).json()["items"]
    path = f"/api/v1/completions/{completion['id']}"
    steps = (await api.get(path)).json()["steps"]
    assert {step["status"] for step in steps} <= {"waiting", "skipped"}

    async def noticed() -> bool:
        return "redis_unavailable" in _events(worker_log)

    await until_async(noticed)
    redis.start()

    async def delivered() -> bool:
        steps = (await api.get(path)).json()["steps"]
        return any(s["name"] == "analytics" and s["status"] == "completed" for s in steps)

    await until_async(delivered)

    await until_async(has_worker)


def settings(**values: Any) -> Settings:
    return load(**values)


async def test_a_wrong_password_is_a_fault(tmp_path: Path) -> None:
    with running_redis(tmp_path, "--requirepass", "right") as redis:
        address = {"redis_host": "127.0.0.1", "redis_port": redis.port}
        assert await check_redis(settings(**address, redis_password="right")) is None
        for wrong in ({}, {"redis_password": "wrong"}):
            fault = await check_redis(settings(**address, **wrong))
            assert fault is not None
            assert "password" in fault.lower() or "auth" in fault.lower()
            assert "wrong" not in fault.replace("WRONGPASS", "")


async def test_a_redis_that_may_evict_jobs_is_a_fault(tmp_path: Path, database_file: Path) -> None:
    options = ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
    with running_redis(tmp_path, *options) as redis:
        fault = await check_redis(settings(queue_url=redis.url))
        assert "noeviction" in (fault or "")
        _, output = await _check(database_file.parent, HOMEROOM_QUEUE_URL=redis.url)
    assert f"redis: {fault}\n" in output


async def test_a_redis_that_rejects_writes_is_a_fault(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "replica").mkdir()
    master = ("--replicaof", f"127.0.0.1 {redis_server.port}")
    with running_redis(tmp_path / "replica", *master) as redis:
        fault = await check_redis(settings(queue_url=redis.url))
    assert "replica" in (fault or "")
    (tmp_path / "full").mkdir()
    with running_redis(tmp_path / "full", "--maxmemory", "1") as redis:
        fault = await check_redis(settings(queue_url=redis.url))
    assert "full" in (fault or "")


async def test_a_node_of_a_redis_cluster_is_refused_before_it_refuses_jobs(
    tmp_path: Path, database_file: Path
) -> None:
    with running_redis(tmp_path, "--cluster-enabled", "yes") as redis:
        with pytest.raises(ConfigurationError, match="Redis Cluster") as refused:
            await check_redis(settings(queue_url=redis.url))
        code, output = await _check(database_file.parent, HOMEROOM_QUEUE_URL=redis.url)
    assert code == ConfigurationError.exit_code
    assert refused.value.message in output


async def _check(folder: Path, **environ: str) -> tuple[int | None, str]:
    """Run ``homeroom check --connect``; return its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *homeroom_command("check", "--connect"),
        env={"PATH": os.environ["PATH"], "HOMEROOM_DATA_DIR": str(folder), **environ},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_SECONDS)
    return process.returncode, output.decode()


async def test_check_reports_faults_of_redis_with_their_fix(
    database_file: Path, redis_server: RedisServer
) -> None:
    folder = database_file.parent
    code, output = await _check(folder, HOMEROOM_QUEUE_URL=redis_server.url)
    assert (code, "Redis responds and can store jobs" in output) == (0, True)
    code, output = await _check(folder, REDIS_HOST="127.0.0.1", REDIS_PORT=str(free_port()))
    assert code == 3
    assert "Redis cannot be used" in output
    assert "Check HOMEROOM_QUEUE_URL, REDIS_HOST" in output
    code, output = await _check(folder, HOMEROOM_QUEUE_URL="redis://")
    assert code == 78
    assert "write redis://" in output


async def test_a_missing_extra_is_an_error_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="bullmq")

    monkeypatch.setattr(job_engine, "import_module", missing)
    with pytest.raises(ConfigurationError, match="not installed \\(bullmq\\)") as raised:
        await check_redis(settings(queue_url="redis://127.0.0.1"))
    assert "pip install 'homeroom[redis]'" in (raised.value.hint or "")


def _certificate(folder: Path) -> Path:
    """Write a key and a self-signed certificate of 127.0.0.1; return the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = to_datetime(Clock().now())
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path = folder / "cert.pem"
    path.write_bytes(made.public_bytes(pem))
    return path


async def test_tls_checks_the_certificate(tmp_path: Path) -> None:
    certificate = _certificate(tmp_path)
    port = free_port()
    options = ("--tls-port", str(port), "--tls-auth-clients", "no")
    options += ("--tls-cert-file", str(certificate), "--tls-key-file", str(tmp_path / "key.pem"))
    options += ("--tls-ca-cert-file", str(certificate))
    with running_redis(tmp_path, *options):
        url = f"rediss://127.0.0.1:{port}/0"
        assert await check_redis(settings(queue_url=url, redis_ca_file=certificate)) is None
        untrusted = await check_redis(settings(queue_url=url))
    assert "certificate" in (untrusted or "").lower()


@contextmanager
def sentinel(folder: Path, master: RedisServer) -> Iterator[int]:
    """Run a Sentinel of a master; return its port."""
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nrequirepass watcher\n"
        f"sentinel monitor school 127.0.0.1 {master.port} 1\n"
        "sentinel auth-pass school inner\nsentinel down-after-milliseconds school 500\n"
        "sentinel failover-timeout school 3000\n",
        encoding="utf-8",
    )
    process = subprocess.Popen(
        [program(), str(config), "--sentinel", "--logfile", str(folder / "sentinel.log")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


async def test_sentinels_name_the_master_and_after_a_failover_the_next(
    tmp_path: Path,
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    secret = ("--requirepass", "inner", "--masterauth", "inner")
    with running_redis(tmp_path / "one", *secret) as first:
        follows = ("--replicaof", f"127.0.0.1 {first.port}")
        with (
            running_redis(tmp_path / "two", *secret, *follows),
            sentinel(tmp_path, first) as port,
        ):
            chosen = settings(
                redis_sentinels=(f"127.0.0.1:{port}",),
                redis_sentinel_name="school",
                redis_sentinel_password="watcher",
                redis_password="inner",
            )

            async def answers() -> bool:
                return await check_redis(chosen) is None

            await until_async(answers)
            await asyncio.to_thread(_knows_its_replica, tmp_path / "sentinel.log")
            first.stop(signal.SIGKILL)
            assert await check_redis(chosen) is not None
            await until_async(answers)


def _knows_its_replica(log: Path) -> None:
    deadline = Clock().now() + int(TIMEOUT_SECONDS * 1_000_000)
    while "+slave slave" not in log.read_text(encoding="utf-8"):
        assert Clock().now() < deadline
        time.sleep(0.05)
