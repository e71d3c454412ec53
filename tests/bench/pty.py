"""Terminals: a keystroke's way and back, output through a websocket, and starting one."""

import base64
import contextlib
import json
import os
import pty
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from agent.process.shell import choose_shell, listed_shells
from tests.bench.clients import Connection, request
from tests.bench.measure import MIB, Bench, Case, Row, at_least, at_most, interleaved
from tests.support.agent import Agent, environment

KEYS = 300
FLOODS = 20
OUTPUT_BYTES = 64 * MIB
SPAWNS = 30
READ_BYTES = 64 * 1024
ECHO = "stty raw -echo; echo up; exec cat"
FLOOD = "exec yes 0123456789abcdef"
WRITER = f"""
import os, sys, tty
tty.setraw(0)
os.write(1, b"up")
os.read(0, 1)
block = memoryview(b"x" * 65536)
for _ in range({OUTPUT_BYTES} // len(block)):
    rest = block
    while rest:
        rest = rest[os.write(1, rest):]
"""
"""Writes as fast as its terminal takes it, once told to."""


class Terminal:
    """A websocket client that is lighter than any library."""

    def __init__(self, agent: Agent, name: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", agent.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {
            **agent.auth,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Protocol": "X-Daytona-Pty-Exit-Control",
        }
        path = f"/process/pty/create-connect?id={name}"
        self._socket.sendall(request(agent.port, "GET", path, headers))
        self.until(b'"connected"}')

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def until(self, wanted: bytes) -> None:
        """Take everything up to these bytes, which have to come at the end."""
        tail = b""
        while wanted not in tail:
            received = self._socket.recv(MIB)
            assert received, tail
            tail = (tail + received)[-1000:]

    def type(self, text: bytes) -> None:
        """Send input, not masked by more than zeros."""
        assert len(text) < 126
        self._socket.sendall(bytes([0x82, 0x80 | len(text)]) + bytes(4) + text)

    def run(self, line: str, sign: bytes) -> None:
        """Run a line, and wait for a sign that it runs."""
        self.type(line.encode() + b"\n")
        self.until(sign)

    def echo(self) -> None:
        """Type a key and wait for it."""
        self.type(b"k")
        self._socket.recv(1000)


class Bare:
    """A program on a pty of our own."""

    def __init__(self, words: Sequence[str]) -> None:
        self.master, slave = pty.openpty()
        # Not our own controlling terminal; that makes no difference to its speed.
        self.process = subprocess.Popen(
            words, stdin=slave, stdout=slave, stderr=slave, env=environment()
        )
        os.close(slave)
        self.until(b"up")

    def until(self, wanted: bytes) -> None:
        """Take output up to these bytes."""
        output = b""
        while wanted not in output:
            output += os.read(self.master, 1000)

    def echo(self) -> None:
        """Type a key and wait for it."""
        os.write(self.master, b"k")
        os.read(self.master, 1000)

    def close(self) -> None:
        """End the program."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def took_ms(echo: Callable[[], None]) -> list[float]:
    """Return how long each of many keys took, in order of length."""
    times = []
    for _ in range(KEYS):
        started = time.perf_counter()
        echo()
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)


def echoes(bench: Bench) -> Iterator[Row]:
    """Measure a key's way through a terminal, alone and beside floods."""
    with (
        bench.agent() as agent,
        contextlib.closing(Terminal(agent, "echo")) as ours,
        contextlib.closing(Bare(["sh", "-c", ECHO])) as bare,
    ):
        ours.run(ECHO, b"up\n")
        for name, flooding, goal in (
            ("alone", 0, at_most(1)),
            (f"beside {FLOODS} terminals that flood", FLOODS, None),
        ):
            for number in range(flooding):
                _start_flood(agent, f"flood{number}")
            many: list[list[float]] = []
            limits: list[list[float]] = []
            interleaved(
                bench.rounds,
                lambda: _kept(many, took_ms(ours.echo)),  # noqa: B023 - called here
                lambda: _kept(limits, took_ms(bare.echo)),  # noqa: B023 - as above
            )
            pairs = list(zip(many, limits, strict=True))
            yield Row(
                name=f"p50 of a key beyond a bare pty, {name}",
                ours=[a[KEYS // 2] - b[KEYS // 2] for a, b in pairs],
                unit="ms",
                goal=goal,
            )
            yield Row(
                name=f"p99 of a key, {name}",
                ours=[each[KEYS * 99 // 100] for each in many],
                limit=[each[KEYS * 99 // 100] for each in limits],
                unit="ms",
            )


def _kept(values: list[list[float]], value: list[float]) -> float:
    values.append(value)
    return value[0]


def _start_flood(agent: Agent, name: str) -> None:
    flood = Terminal(agent, name)
    flood.type(FLOOD.encode() + b"\n")
    flood.until(b"0123456789abcdef\r\n0123456789abcdef")
    flood.close()


def output(bench: Bench) -> Iterator[Row]:
    """Measure raw output through a websocket against a loop of os.read."""
    script = bench.directory() / "writer.py"
    script.write_text(WRITER)
    with bench.agent() as agent:

        def through_the_agent() -> float:
            with contextlib.closing(Terminal(agent, "output")) as terminal:
                terminal.run(f"exec {sys.executable} {script}", b"up")
                started = time.perf_counter()
                terminal.type(b"\n")
                terminal.until(b'"exitCode"')
                return OUTPUT_BYTES / MIB / (time.perf_counter() - started)

        def bare() -> float:
            with contextlib.closing(Bare([sys.executable, str(script)])) as terminal:
                started = time.perf_counter()
                os.write(terminal.master, b"\n")
                with contextlib.suppress(OSError):
                    while os.read(terminal.master, READ_BYTES):
                        """Thrown away."""
                return OUTPUT_BYTES / MIB / (time.perf_counter() - started)

        ours, limit = interleaved(bench.rounds, through_the_agent, bare)
    yield Row(
        name="raw output against a loop of os.read on a pty",
        ours=ours,
        limit=limit,
        unit="MiB/s",
        goal=at_least(1.2),
    )


def starting(bench: Bench) -> Iterator[Row]:
    """Measure how long a terminal takes to be there, against pty.fork."""
    shell = choose_shell(listed_shells(), environment().get("SHELL"))
    ours: list[float] = []
    limit: list[float] = []
    with bench.agent() as agent, Connection(agent.port) as connection:
        for number in range(bench.rounds):
            pairs = [
                (_open(agent, connection, f"{number}-{each}"), _fork(shell))
                for each in range(SPAWNS)
            ]
            ours.append(statistics.median(pair[0] for pair in pairs))
            limit.append(statistics.median(pair[1] for pair in pairs))
    yield Row(
        name="a terminal by HTTP against pty.fork until its shell runs",
        ours=ours,
        limit=limit,
        unit="ms",
        goal=at_most(0.6),
        note=f"{_rss_mib():.0f} MiB forked",
    )


def _open(agent: Agent, connection: Connection, name: str) -> float:
    """Return how long opening a terminal takes."""
    body = json.dumps({"id": name}).encode()
    headers = {**agent.auth, "Content-Type": "application/json"}
    asked = request(agent.port, "POST", "/process/pty", headers, body)
    started = time.perf_counter()
    connection.ask(asked)
    took_ms = (time.perf_counter() - started) * 1000
    # Answered when nothing of it is left.
    path = f"/process/pty/{name}"
    connection.ask(request(agent.port, "DELETE", path, agent.auth))
    return took_ms


def _fork(shell: str) -> float:
    """Return how long a shell on a pty takes until it has been executed."""
    reading, writing = os.pipe()
    started = time.perf_counter()
    pid, master = pty.fork()
    if pid == 0:
        os.execv(shell, [shell, "-i", "-l"])
    os.close(writing)
    os.read(reading, 1)
    took_ms = (time.perf_counter() - started) * 1000
    os.close(reading)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(master)
    return took_ms


def _rss_mib() -> float:
    text = Path("/proc/self/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    assert found is not None
    return int(found[1]) / 1024


CASES = (
    Case(
        name="pty-echo",
        about="a keystroke through a terminal, alone and beside 20 floods",
        run=echoes,
    ),
    Case(
        name="pty-output",
        about="a terminal's output through a websocket, against os.read",
        run=output,
    ),
    Case(
        name="pty-start",
        about="opening a terminal, against pty.fork",
        run=starting,
    ),
)
