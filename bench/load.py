"""Send progress events as fast as a server acknowledges them, and report what it acknowledged.

The requests are built before the clock starts, so that while it runs this process only writes
bytes, reads bytes and counts: on a machine with two cores it must leave the server its own.

    python -m bench.load --port 8420 --key hr_... --learners 10000 --chapters 50 --seconds 10
"""

import argparse
import asyncio
import gc
import json
import os
import random
import time
from array import array
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from typing import Any, cast

import msgspec
import uvloop

STATUSES = ("accepted", "duplicate", "conflict", "quarantined", "rejected")
# A connection that was refused or told to wait tries again after this long at most.
LONGEST_WAIT_SECONDS = 1.0
# How long the requests in flight at the end may take before they count as lost.
DRAIN_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is sent, and for how long. Either `requests` or `seconds` ends the run."""

    port: int
    second_port: int | None = None
    """Of another server, to which every other connection goes."""
    host: str = "127.0.0.1"
    path: str = "/api/progress/enhanced-update"
    key: str = ""
    connections: int = 64
    events: int = 10
    """Events in one body, all of one learner unless `relay`."""
    learners: int = 10_000
    courses: int = 1
    chapters: int = 50
    """Chapters of each course; ids are `learner-000000`, `course-000` and `chapter-000`."""
    relay: bool = False
    """Whether each event of a body is another learner's, as where a server passes events on."""
    ids: str = "v7"
    """`v4` (random) or `v7` (time-ordered), new in every run whatever the seed."""
    id_spread_ms: int = 0
    """How long before it is sent an event may have happened; 0 puts v7 ids in sending order."""
    repeated: float = 0.01
    """Share of the requests that are sent once more, byte for byte, 1 to 200 requests later."""
    seed: int = 1
    seconds: float | None = None
    warmup_seconds: float = 0.0
    """Counts towards the sums, not towards rates and latencies."""
    requests: int | None = None
    highest_rate: int = 15_000
    """Requests a second that are built for a run by `seconds`."""
    recycle: bool = False
    """Begin again when all requests are sent; only for a server that keeps nothing."""

    def built(self) -> int:
        """Return how many different requests the run needs."""
        if (self.seconds is None) == (self.requests is None):
            raise ValueError("a run ends after `requests` or after `seconds`: give one")
        if self.recycle and self.seconds is None:
            raise ValueError("`recycle` needs `seconds`: it would never end")
        if self.requests is not None:
            return self.requests
        assert self.seconds is not None
        return round((self.seconds + self.warmup_seconds) * self.highest_rate)


def event_id(kind: str, at_ms: int) -> str:
    """Return a fresh UUID of the kind, as text; `at_ms` is Unix time and matters for v7 only."""
    noise = os.urandom(16).hex()
    variant = "89ab"[int(noise[16], 16) & 3]
    if kind == "v4":
        head, version = noise[:12], "4"
    else:
        head, version = f"{at_ms:012x}", "7"
    return f"{head[:8]}-{head[8:]}-{version}{noise[13:16]}-{variant}{noise[17:20]}-{noise[20:]}"


class Cargo:
    """The requests of a run: their bytes, and the seconds of time spent that each carries."""

    def __init__(self, plan: Plan) -> None:
        """Build every request of the plan."""
        self.plan = plan
        self.raw: list[bytes] = []
        self.time_spent = array("q")
        self.order = array("L")
        draw = random.Random(plan.seed)
        start = datetime.now(UTC)
        for index in range(plan.built()):
            # Ten requests a millisecond, which is about the rate that is hoped for.
            self._add(draw, start + timedelta(milliseconds=index // 10))
            self.order.append(index)
            if draw.random() < plan.repeated:
                self.order.append(max(0, index - draw.randrange(200)))

    def _add(self, draw: random.Random, at: datetime) -> None:
        plan, total, events = self.plan, 0, []
        learner = f"learner-{draw.randrange(plan.learners):06d}"
        course = f"course-{draw.randrange(plan.courses):03d}"
        for _ in range(plan.events):
            if plan.relay:
                learner = f"learner-{draw.randrange(plan.learners):06d}"
            happened = at
            if plan.id_spread_ms:
                happened -= timedelta(milliseconds=draw.randrange(plan.id_spread_ms))
            name = event_id(plan.ids, int(happened.timestamp() * 1_000))
            spent = draw.randrange(1, 61)
            total += spent
            # Below 100: what finishing a course costs is another benchmark's question.
            events.append(
                f'{{"id":"{name}","userId":"{learner}","courseId":"{course}",'
                f'"chapterId":"chapter-{draw.randrange(plan.chapters):03d}",'
                f'"eventType":"chapter_progress","progress":{draw.randrange(100)},'
                f'"timeSpent":{spent},"timestamp":"{happened:%Y-%m-%dT%H:%M:%S}.'
                f'{happened.microsecond // 1000:03d}Z"}}'
            )
        body = f'{{"events":[{",".join(events)}]}}'
        key = f"Authorization: Bearer {plan.key}\r\n" if plan.key else ""
        self.raw.append(
            f"POST {plan.path} HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\n{key}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        self.time_spent.append(total)

    def spent_by(self, request: int, names: set[str]) -> int:
        """Return the seconds that the named events of a request carry."""
        body = msgspec.json.decode(self.raw[request].partition(b"\r\n\r\n")[2])
        return sum(event["timeSpent"] for event in body["events"] if event["id"] in names)


class Tally:
    """What came back."""

    def __init__(self, cargo: Cargo) -> None:
        """Begin with nothing."""
        self.cargo = cargo
        self.plain = f'"accepted":{cargo.plan.events},'.encode()
        self.latencies = array("d")
        self.measured = dict.fromkeys(STATUSES, 0)
        self.total = dict.fromkeys(STATUSES, 0)
        self.time_spent = 0
        self.sent = 0
        self.errors: Counter[str] = Counter()

    def acknowledge(self, request: int, body: bytes, measured: bool) -> None:
        """Count a 200 answer; the time spent of what is not plainly accepted is left out."""
        plan = self.cargo.plan
        if self.plain in body:
            self.total["accepted"] += plan.events
            self.time_spent += self.cargo.time_spent[request]
            if measured:
                self.measured["accepted"] += plan.events
            return
        answer = msgspec.json.decode(body)
        for status in STATUSES:
            self.total[status] += answer[status]
            if measured:
                self.measured[status] += answer[status]
        if answer["accepted"]:
            others = {one["id"] for one in answer["results"] if one["status"] != "accepted"}
            left_out = self.cargo.spent_by(request, others)
            self.time_spent += self.cargo.time_spent[request] - left_out


class Run:
    """One run: which request is next, and when it is over."""

    def __init__(self, cargo: Cargo) -> None:
        """Take the requests; the clock starts with `start`."""
        self.cargo = cargo
        self.tally = Tally(cargo)
        self.position = 0
        self.open = 0
        self.over = asyncio.get_running_loop().create_future()
        self.measure_from = self.until = self.last = 0.0
        self.cpu_from = self.cpu_until = 0.0

    def start(self) -> None:
        """Start the clock."""
        plan, now = self.cargo.plan, time.perf_counter()
        self.measure_from = self.last = now + plan.warmup_seconds
        self.until = float("inf") if plan.seconds is None else self.measure_from + plan.seconds
        loop = asyncio.get_running_loop()
        loop.call_later(plan.warmup_seconds, self._begin_cpu)
        if plan.seconds is not None:
            loop.call_later(plan.warmup_seconds + plan.seconds, self._end_cpu)

    def _begin_cpu(self) -> None:
        self.cpu_from = time.process_time()

    def _end_cpu(self) -> None:
        self.cpu_until = self.cpu_until or time.process_time()

    def next(self, now: float) -> int | None:
        """Return which request to send next, or None when the run is over."""
        if now >= self.until:
            return None
        if self.position == len(self.cargo.order):
            if not self.cargo.plan.recycle:
                return None
            self.position = 0
        self.position += 1
        self.tally.sent += 1
        return self.cargo.order[self.position - 1]

    def finished(self) -> None:
        """Take note that a connection has nothing more to do."""
        self.open -= 1
        if self.open == 0 and not self.over.done():
            self._end_cpu()
            self.over.set_result(None)

    def report(self) -> dict[str, Any]:
        """Return the figures of the run."""
        tally, plan = self.tally, self.cargo.plan
        # To the end where there is one, to the last answer otherwise. The answers that came after
        # the end count in the sums alone.
        self._end_cpu()
        exhausted = not plan.recycle and self.position == len(self.cargo.order)
        end = self.last if exhausted else self.until
        elapsed = max(end - self.measure_from, 0.001)
        sorted_ms = sorted(1_000 * latency for latency in tally.latencies)

        def at(share: float) -> float | None:
            return (
                round(sorted_ms[min(len(sorted_ms) - 1, int(share * len(sorted_ms)))], 3)
                if sorted_ms
                else None
            )

        return {
            "eventsPerSecond": round(tally.measured["accepted"] / elapsed, 1),
            "requestsPerSecond": round(len(sorted_ms) / elapsed, 1),
            "seconds": round(elapsed, 3),
            "requests": tally.sent,
            "latencyMs": {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1.0)},
            "events": tally.total,
            "timeSpentAcknowledged": tally.time_spent,
            "errors": dict(tally.errors),
            "cpuShare": round((self.cpu_until - self.cpu_from) / elapsed, 3),
            "exhausted": exhausted and plan.seconds is not None,
        }


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request in flight."""

    def __init__(self, run: Run) -> None:
        """Take the run that says what to send."""
        self.run = run
        self.request: int | None = None
        self.sent_at = 0.0
        self.buffer = b""
        self.ended = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; `begin` sends the first request."""
        self.transport = cast(asyncio.Transport, transport)

    def begin(self) -> None:
        """Send the next request, or hang up when there is none."""
        now = time.perf_counter()
        self.request = self.run.next(now)
        assert self.transport is not None
        if self.request is None:
            self.end()
            return
        self.sent_at = now
        self.transport.write(self.run.cargo.raw[self.request])

    def data_received(self, data: bytes) -> None:
        """Read one answer, count it, and go on with the next request."""
        if self.buffer:
            data = self.buffer + data
        head = data.find(b"\r\n\r\n")
        if head < 0:
            self.buffer = data
            return
        lower = data[:head].lower()
        mark = lower.find(b"content-length:")
        if mark < 0:
            raise ValueError("an answer without Content-Length")
        line_end = lower.find(b"\r\n", mark)
        length = int(lower[mark + 15 : line_end if line_end > 0 else head])
        if len(data) < head + 4 + length:
            self.buffer = data
            return
        self.buffer = b""
        self.answered(data[9:12], lower, data[head + 4 :])

    def answered(self, status: bytes, head: bytes, body: bytes) -> None:
        """Count one answer; after a refusal wait as long as it asks for, a second at most."""
        run, now = self.run, time.perf_counter()
        assert self.request is not None
        request, self.request = self.request, None
        if status != b"200":
            run.tally.errors[status.decode()] += 1
            asyncio.get_running_loop().call_later(wait_asked_for(head), self.begin)
            return
        measured = run.measure_from <= now <= run.until
        if measured:
            run.tally.latencies.append(now - self.sent_at)
            run.last = now
        run.tally.acknowledge(request, body, measured)
        self.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a connection that the server dropped; it is not opened again."""
        if not self.ended:
            self.run.tally.errors["dropped"] += 1
            self.end()

    def end(self) -> None:
        """Hang up, once."""
        if not self.ended:
            self.ended = True
            assert self.transport is not None
            self.transport.close()
            self.run.finished()


def wait_asked_for(head: bytes) -> float:
    """Return the seconds of an answer's Retry-After, within what a benchmark can wait."""
    mark = head.find(b"retry-after:")
    if mark < 0:
        return 0.01
    text = head[mark + 12 :].split(b"\r\n", 1)[0].strip()
    return min(float(text), LONGEST_WAIT_SECONDS) if text.isdigit() else LONGEST_WAIT_SECONDS


async def send(cargo: Cargo) -> dict[str, Any]:
    """Run the plan of the cargo and return its report; raise OSError if no server listens."""
    plan, loop = cargo.plan, asyncio.get_running_loop()
    run = Run(cargo)
    connections = [
        (await loop.create_connection(lambda: Connection(run), plan.host, port))[1]
        for port in islice(cycle([plan.port, plan.second_port or plan.port]), plan.connections)
    ]
    run.open = len(connections)
    # Nothing made so far goes away before the end, and nothing made later refers to itself.
    gc.collect()
    gc.freeze()
    gc.disable()
    run.start()
    for connection in connections:
        connection.begin()
    longest = None if plan.seconds is None else plan.warmup_seconds + plan.seconds + DRAIN_SECONDS
    try:
        async with asyncio.timeout(longest):
            await asyncio.shield(run.over)
    except TimeoutError:
        run.tally.errors["unanswered"] += sum(one.request is not None for one in connections)
    gc.enable()
    return run.report()


def load(plan: Plan) -> dict[str, Any]:
    """Build the requests of a plan, send them on a loop of their own, and return the report."""
    return uvloop.run(send(Cargo(plan)))


def main() -> None:
    """Read the plan from the command line and print the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name, field in Plan.__dataclass_fields__.items():
        option = "--" + name.replace("_", "-")
        if field.type is bool:
            parser.add_argument(option, action="store_true")
        else:
            kind = {"float | None": float, "int | None": int}.get(str(field.type), field.type)
            required = name == "port"
            default = None if required else field.default
            parser.add_argument(option, type=kind, default=default, required=required)
    print(json.dumps(load(Plan(**vars(parser.parse_args()))), indent=2))


if __name__ == "__main__":
    main()
