"""Cold start, idle memory and idle processor time, and the api's way back after a kill."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.clients import Connection, request
from tests.bench.measure import (
    MIB,
    Bench,
    Case,
    Row,
    at_most,
    cpu_ticks,
    interleaved,
    pss_bytes,
)
from tests.bench.stand_ins import connected, free_port, process, python, server
from tests.support.agent import PROGRAM, Agent, environment

LATE_MODULES = (
    "git",
    "lsprotocol",
    "psutil",
    "pydantic",
    "pygls",
    "ssl",
    "watchfiles",
)
"""What nobody may load before it is needed."""
LATE_LIBRARIES = re.compile(r"_ssl\.|_psutil|pydantic_core|_rust_notify")
"""Those of them that show in a process's memory map."""
KILLS = 10
STARTS_A_ROUND = 3
SETTLE_S = 1.0
"""After the last request, before idling begins."""


def version_request(port: int) -> bytes:
    """Return the request that is measured."""
    return request(port, "GET", "/version")


def first_answer_s(words: Sequence[str], port: int) -> float:
    """Return the time from starting a program to the first answer on `port`."""
    started = time.perf_counter()
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    ) as running:
        try:
            with connected(port) as connection:
                connection.sendall(version_request(port))
                answer = connection.recv(65536)
            took_s = time.perf_counter() - started
        finally:
            running.terminate()
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:500]
    return took_s


def start(bench: Bench) -> Iterator[Row]:
    """Measure exec to first 200 against a bare asyncio server."""
    state = bench.directory()

    def ours() -> float:
        port = free_port()
        place = ["--port", str(port), "--state-dir", str(state), "--log-level", "error"]
        return first_answer_s([PROGRAM, "serve", *place], port) * 1000

    def bare() -> float:
        port = free_port()
        return first_answer_s(python("bare_asyncio.py", port), port) * 1000

    # The first start of each writes bytecode and fills the page cache.
    ours()
    bare()
    found, limit = interleaved(bench.rounds * STARTS_A_ROUND, ours, bare)
    yield Row(
        name="exec to first 200 against bare asyncio",
        ours=found,
        limit=limit,
        unit="ms",
        goal=at_most(2.5),
    )
    yield loaded(bench)


def loaded(bench: Bench) -> Row:
    """Count what was loaded before it was needed."""
    names = ", ".join(f"{each!r}" for each in LATE_MODULES)
    code = f"import agent.api, sys; print(*[m for m in ({names},) if m in sys.modules])"
    found = set(
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout.split()
    )
    if os.geteuid() == 0:
        with bench.agent() as agent:
            for pid in (agent.pid, agent.api_pid()):
                maps = Path(f"/proc/{pid}/maps").read_text()
                found |= set(LATE_LIBRARIES.findall(maps))
    return Row(
        name="heavy modules loaded at the first answer",
        ours=[len(found)],
        goal=at_most(0),
        note=", ".join(sorted(found)),
    )


def idle(bench: Bench) -> Iterator[Row]:
    """Measure memory and processor time when nothing is asked."""

    def ours() -> float:
        with bench.agent() as agent:
            return pss_bytes(both(agent)) / MIB

    def bare() -> float:
        with (
            server("bare_aiohttp.py") as hello,
            process([sys.executable, "-uc", "print(); input()"]) as waiting,
        ):
            # Its line says that it has come as far as it comes.
            assert waiting.stdout is not None
            waiting.stdout.readline()
            with Connection(hello.port) as connection:
                connection.ask(version_request(hello.port))
            return pss_bytes([hello.pid, waiting.pid]) / MIB

    found, limit = interleaved(bench.rounds, ours, bare)
    yield Row(
        name="keeper + api PSS against plain aiohttp + bare Python",
        ours=found,
        limit=limit,
        unit="MiB",
        goal=at_most(1.1),
    )
    duration_s = 60 if bench.rounds >= 3 else 20
    with bench.agent() as agent:
        pids = both(agent)
        time.sleep(SETTLE_S)
        before = cpu_ticks(pids)
        time.sleep(duration_s)
        used = cpu_ticks(pids) - before
    yield Row(
        name=f"processor time of {duration_s} idle seconds",
        ours=[used],
        unit="ticks",
        goal=at_most(0),
    )


def both(agent: Agent) -> list[int]:
    """Return the process ids of keeper and api."""
    return [agent.pid, agent.api_pid()]


def killed(bench: Bench) -> Iterator[Row]:
    """Measure the time from `kill -9` of the api to the next 200."""
    took_ms: list[float] = []
    with bench.agent() as agent:
        for _ in range(KILLS):
            pid = agent.api_pid()
            started = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            answered(agent.port)
            took_ms.append((time.perf_counter() - started) * 1000)
    yield Row(
        name=f"kill -9 of the api to the next 200, slowest of {KILLS}",
        ours=[max(took_ms)],
        unit="ms",
        goal=at_most(1000),
    )


def answered(port: int) -> None:
    """Ask until there is an answer; a connection that the dead api had taken is reset."""
    while True:
        with contextlib.suppress(ConnectionError), Connection(port) as connection:
            connection.ask(version_request(port))
            return


CASES = (
    Case(
        name="start",
        about="exec of `toolbox-agent serve` to the first 200, and what it loads",
        run=start,
    ),
    Case(
        name="idle",
        about="memory of both processes, and processor time, with no client",
        run=idle,
        needs_root=True,
    ),
    Case(name="killed", about="the api's way back after kill -9", run=killed),
)
