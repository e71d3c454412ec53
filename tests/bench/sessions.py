"""Sessions: a command's time, a follower's delay, much output, and many of them held."""

import json
import re
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

from tests.bench.clients import Connection, fetch, request
from tests.bench.measure import (
    MIB,
    Bench,
    Case,
    Row,
    at_least,
    at_most,
    interleaved,
    peak_growth,
    pss_bytes,
    seconds,
)
from tests.support.agent import Agent, environment

SHELL = "/bin/sh"
RUNS = 300
WARM_UP_RUNS = 20
LINES = 400
LINE_EVERY_S = 0.003
HELD = 100
FOLLOWERS = 3
"""Of each session that is held."""

CHILD = f"""
import os, time
for _ in range({LINES}):
    os.write(1, b"%d\\n" % time.monotonic_ns())
    time.sleep({LINE_EVERY_S})
"""
STAMP = re.compile(rb"(\d{9,})\n")


class Session:
    """A session of an agent, asked by one connection that is kept."""

    def __init__(self, agent: Agent, connection: Connection) -> None:
        self.agent = agent
        self._connection = connection
        self.name = str(uuid4())
        connection.ask(self.request("POST", "", {"sessionId": self.name}, within=False))

    def request(
        self, method: str, path: str, body: object = None, *, within: bool = True
    ) -> bytes:
        """Return the bytes of a request about this session, or about all of them."""
        sent = json.dumps(body).encode() if body is not None else b""
        headers = {
            **self.agent.auth,
            "Content-Type": "application/json",
            "X-Daytona-SDK-Version": "0.226.1",
        }
        target = f"/process/session{f'/{self.name}' if within else ''}{path}"
        return request(self.agent.port, method, target, headers, sent)

    def exec(self, text: str, **fields: object) -> bytes:
        """Return the request that runs a command."""
        return self.request("POST", "/exec", {"command": text, **fields})

    def start(self, text: str) -> str:
        """Start a command; return the path of its log."""
        answer = self._connection.ask(self.exec(text, runAsync=True))
        command = json.loads(answer.partition(b"\r\n\r\n")[2])["cmdId"]
        return f"/command/{command}/logs?follow=true"

    def delete(self) -> None:
        """Delete it with everything in it."""
        self._connection.ask(self.request("DELETE", ""))


def commands(bench: Bench) -> Iterator[Row]:
    """Measure `echo` in a session, which waits for it."""
    tails: list[float] = []
    variables = environment()

    def spawned_ms() -> float:
        words = [str(bench.spawner), "each", str(RUNS), SHELL]
        done = subprocess.run(words, stdout=subprocess.PIPE, env=variables, check=True)
        return float(done.stdout) / 1e6

    with bench.agent("--shell", SHELL) as agent, Connection(agent.port) as connection:
        session = Session(agent, connection)
        asked = session.exec("echo hi")

        def median_ms() -> float:
            took_ms = times_ms(lambda: connection.ask(asked), RUNS)
            tails.append(statistics.quantiles(took_ms, n=100)[98])
            return statistics.median(took_ms)

        ours, limit = interleaved(bench.rounds, median_ms, spawned_ms)
    yield Row(
        name=f"p50 of `echo` against posix_spawn of {SHELL} in C",
        ours=ours,
        limit=limit,
        unit="ms",
        goal=at_most(0.8),
    )
    yield Row(name="p99 of `echo`", ours=tails, unit="ms", goal=at_most(5))


def times_ms(work: Callable[[], object], count: int) -> list[float]:
    """Return how long each of `count` turns of `work` took, a few first ones aside."""
    for _ in range(WARM_UP_RUNS):
        work()
    return [seconds(work) * 1000 for _ in range(count)]


def delays(bench: Bench) -> Iterator[Row]:
    """Measure how long a line takes from its writer to a follower."""
    child = bench.directory() / "child.py"
    child.write_text(CHILD)
    found: dict[str, list[list[float]]] = {"websocket": [], "chunked body": []}
    with bench.agent("--shell", SHELL) as agent, Connection(agent.port) as connection:
        for _ in range(bench.rounds):
            for kind, rounds in found.items():
                session = Session(agent, connection)
                path = session.start(f"exec python3 -I {child}")
                rounds.append(sorted(delays_ms(session, path, kind)))
                session.delete()
    for kind, rounds in found.items():
        for name, share, goal in (("p50", 0.5, 1), ("p99", 0.99, 5)):
            yield Row(
                name=f"{name} from a child's write to a {kind}",
                ours=[each[int(share * len(each))] for each in rounds],
                unit="ms",
                goal=at_most(goal),
            )


def delays_ms(session: Session, path: str, kind: str) -> list[float]:
    """Follow a log of time stamps; return how old each was when it came."""
    asked = session.request("GET", path)
    if kind == "websocket":
        upgrade = (
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        asked = asked[:-2] + upgrade
    took_ms: list[float] = []
    address = ("127.0.0.1", session.agent.port)
    with socket.create_connection(address, timeout=30) as follower:
        follower.sendall(asked)
        rest = b""
        while len(took_ms) < LINES and (piece := follower.recv(65536)):
            now = time.monotonic_ns()
            stamps = STAMP.findall(rest + piece)
            took_ms += [(now - int(stamp)) / 1e6 for stamp in stamps]
            rest = (rest + piece).rpartition(b"\n")[2]
    # What was written before it came in is no delay of ours.
    return took_ms[LINES // 10 :]


def output(bench: Bench) -> Iterator[Row]:
    """Measure much output, stored and followed at once."""
    # No `cat`, which has a file copied by the kernel when it can.
    command, target = f"head -c {bench.size_bytes} /dev/zero", bench.scratch / "copy"
    growth_mib: list[float] = []
    options = ("--shell", SHELL, "--command-log-max-bytes", str(4 * bench.size_bytes))

    def copied_s() -> float:
        words = [SHELL, "-c", f"{command} > {target}"]
        took_s = seconds(lambda: subprocess.run(words, check=True))
        target.unlink()
        return bench.size_bytes / MIB / took_s

    with bench.agent(*options) as agent, Connection(agent.port) as connection:
        pids = (agent.pid, agent.api_pid())

        def followed_s() -> float:
            session = Session(agent, connection)
            with peak_growth(pids) as growth:
                took_s = seconds(lambda: follow(session))
            growth_mib.append(growth[0] / MIB)
            session.delete()
            return bench.size_bytes / MIB / took_s

        def follow(session: Session) -> None:
            path = session.start(command) + "&offset=0"
            asked = session.request("GET", path)
            closing = asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
            assert fetch(agent.port, closing) >= bench.size_bytes

        ours, limit = interleaved(bench.rounds, followed_s, copied_s)
    mib = bench.size_bytes // MIB
    yield Row(
        name=f"{mib} MiB stored and followed against `command > file`",
        ours=ours,
        limit=limit,
        unit="MiB/s",
        goal=at_least(0.8),
    )
    yield Row(
        name="memory that both processes take more meanwhile",
        ours=growth_mib,
        unit="MiB",
        goal=at_most(16),
    )


def held(bench: Bench) -> Iterator[Row]:
    """Measure what sessions take that do nothing, each with followers."""
    used, each_kib = [], []
    for _ in range(bench.rounds):
        with (
            bench.agent("--shell", SHELL) as agent,
            Connection(agent.port) as connection,
        ):
            pids = (agent.pid, agent.api_pid())
            before = pss_bytes(pids)
            followers = []
            for _ in range(HELD):
                session = Session(agent, connection)
                path = session.start("read x")
                for _ in range(FOLLOWERS):
                    address = ("127.0.0.1", agent.port)
                    follower = socket.create_connection(address, timeout=30)
                    follower.sendall(session.request("GET", path))
                    follower.recv(65536)
                    followers.append(follower)
            used.append(pss_bytes(pids) / MIB)
            each_kib.append((used[-1] * MIB - before) / 1024 / HELD)
            for follower in followers:
                follower.close()
    yield Row(
        name=f"both processes with {HELD} sessions, {FOLLOWERS} followers each",
        ours=used,
        unit="MiB",
        goal=at_most(160),
    )
    yield Row(
        name="of it, for one session and its followers", ours=each_kib, unit="KiB"
    )


CASES = (
    Case(
        name="session",
        about="`echo` in a session, against C",
        run=commands,
        needs=("gcc",),
    ),
    Case(
        name="session-follow",
        about="from a child's write to a follower's receipt",
        run=delays,
    ),
    Case(
        name="session-output",
        about="a gigabyte stored and followed, against `command > file`",
        run=output,
        needs_root=True,
    ),
    Case(
        name="session-held",
        about="the memory of 100 sessions with followers",
        run=held,
        needs_root=True,
    ),
)
