"""The way to a server in the sandbox, against nginx as reverse proxy to the same one."""

from collections.abc import Iterator

from tests.bench.clients import Connection, fetch, request, streams, wrk
from tests.bench.measure import (
    MIB,
    Bench,
    Case,
    Row,
    at_least,
    at_most,
    interleaved,
    peak_growth,
    pin,
    seconds,
)
from tests.bench.stand_ins import nginx, nginx_proxy, server

CLOSE = {"Connection": "close"}
ASKED = 500
"""Requests of one measure of latency."""
STREAMS = 500
SERVER_CPU = 0
CLIENT_CPU = 1
GROWTH_MAX_MIB = 16.0


def latency(bench: Bench) -> Iterator[Row]:
    """Measure small answers, one after another and many at once."""
    root = bench.small_file.parent
    with (
        bench.agent() as agent,
        nginx(root) as behind,
        nginx_proxy(bench.directory(), behind.port) as limit,
    ):
        name = f"/{bench.small_file.name}"
        target = f"/proxy/{behind.port}{name}"
        agent.request("GET", target)
        pin([agent.pid, agent.api_pid(), limit.pid], SERVER_CPU)
        pin([behind.pid], CLIENT_CPU)
        ours, theirs, plain = interleaved(
            bench.rounds,
            lambda: _latency_ms(
                agent.port, request(agent.port, "GET", target, agent.auth)
            ),
            lambda: _latency_ms(limit.port, request(limit.port, "GET", name)),
            lambda: _latency_ms(
                agent.port, request(agent.port, "GET", "/work-dir", agent.auth)
            ),
        )
        many, others = interleaved(
            bench.rounds,
            lambda: wrk(agent.port, target, agent.auth, cpu=CLIENT_CPU),
            lambda: wrk(limit.port, name, {}, cpu=CLIENT_CPU),
        )
    yield Row(
        name="latency of 4 KiB against nginx as proxy",
        ours=ours,
        limit=theirs,
        unit="ms",
    )
    yield Row(
        name="latency of 4 KiB against GET /work-dir", ours=ours, limit=plain, unit="ms"
    )
    yield Row(
        name="4 KiB, 16 connections, against nginx as proxy",
        ours=many,
        limit=others,
        unit="req/s",
    )


def large(bench: Bench) -> Iterator[Row]:
    """Measure one large answer, and the memory that it takes."""
    with (
        bench.agent() as agent,
        nginx(bench.large_file.parent) as behind,
        nginx_proxy(bench.directory(), behind.port) as limit,
    ):
        name = f"/{bench.large_file.name}"
        target = f"/proxy/{behind.port}{name}"
        asked = request(agent.port, "GET", target, {**agent.auth, **CLOSE})
        theirs = request(limit.port, "GET", name, CLOSE)
        fetch(agent.port, asked)
        found, least = interleaved(
            bench.rounds,
            lambda: _rate(bench, agent.port, asked),
            lambda: _rate(bench, limit.port, theirs),
        )
        with peak_growth([agent.pid, agent.api_pid()]) as growth:
            fetch(agent.port, asked)
    yield Row(
        name=f"{bench.size_bytes // MIB} MiB against nginx as proxy",
        ours=found,
        limit=least,
        unit="MB/s",
        goal=at_least(0.5),
    )
    yield Row(
        name="memory grown meanwhile",
        ours=[growth[0] / MIB],
        unit="MiB",
        goal=at_most(GROWTH_MAX_MIB),
    )


def many(bench: Bench) -> Iterator[Row]:
    """Measure many streams of small events at once."""
    with (
        bench.agent() as agent,
        server("events.py") as behind,
        nginx_proxy(bench.directory(), behind.port) as limit,
    ):
        target = f"/proxy/{behind.port}/"
        asked = request(agent.port, "GET", target, agent.auth)
        theirs = request(limit.port, "GET", "/")
        agent.request("GET", target)
        found, least = interleaved(
            bench.rounds,
            lambda: streams(agent.port, asked, STREAMS) / 1e6,
            lambda: streams(limit.port, theirs, STREAMS) / 1e6,
        )
    yield Row(
        name=f"{STREAMS} streams of events against nginx as proxy",
        ours=found,
        limit=least,
        unit="MB/s",
    )


def _latency_ms(port: int, sent: bytes) -> float:
    with Connection(port) as connection:
        connection.ask(sent)
        took = seconds(lambda: [connection.ask(sent) for _ in range(ASKED)])
    return took / ASKED * 1000


def _rate(bench: Bench, port: int, sent: bytes) -> float:
    return bench.size_bytes / seconds(lambda: fetch(port, sent)) / 1e6


CASES = (
    Case(
        name="proxy",
        about="small answers through /proxy, against nginx as reverse proxy",
        run=latency,
        needs=("nginx", "wrk", "taskset"),
    ),
    Case(
        name="proxy-large",
        about="a large answer through /proxy, against nginx as reverse proxy",
        run=large,
        needs=("nginx",),
        needs_root=True,
    ),
    Case(
        name="proxy-streams",
        about=f"{STREAMS} streams of events through /proxy, against nginx",
        run=many,
        needs=("nginx",),
    ),
)
