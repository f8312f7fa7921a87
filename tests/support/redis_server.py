"""The Redis server of the tests, one for each test process: a test may empty all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.support.missing_server import skip_or_fail
from tools.servers import redis
from tools.servers.debian import Missing
from tools.servers.redis import RedisServer


@contextmanager
def running_redis(folder: Path, *options: str) -> Iterator[RedisServer]:
    """Run a Redis server for one test; skip where none is installed."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(redis.running(folder, *options))
        except Missing as missing:
            skip_or_fail(missing)
        yield server


_running: list[RedisServer] = []


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return the Redis of this test process."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        _running.append(server)
        yield server
        _running.clear()


def started() -> RedisServer:
    """Return the Redis of this test process, which the fixture has started."""
    assert _running, "the test asks for the fixture redis_server first"
    return _running[0]
