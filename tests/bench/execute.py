"""Running commands, against a C program that starts the same shell."""

import json
import statistics
import subprocess
import time
from collections.abc import Iterator

from agent.process.shell import choose_shell, listed_shells
from tests.bench.clients import Connection, request, throughput
from tests.bench.measure import Bench, Case, Row, at_least, at_most, interleaved
from tests.support.agent import Agent, environment

RUNS = 200
WARM_UP_RUNS = 20
CLIENTS = 64
DURATION_S = 2.0
SPAWNERS = 2


def execute(bench: Bench) -> Iterator[Row]:
    """Measure `true`, alone and from many clients at once."""
    variables = environment()
    shell = choose_shell(listed_shells(), variables.get("SHELL"))

    def spawner(*arguments: object) -> "subprocess.Popen[str]":
        words = [str(bench.spawner), *map(str, arguments), shell]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=variables)

    def figure(running: "subprocess.Popen[str]") -> float:
        with running:
            text = running.communicate()[0]
        assert running.returncode == 0
        return float(text)

    with bench.agent() as agent:
        asked = execute_request(agent, "true")
        alone, alone_c = interleaved(
            bench.rounds,
            lambda: median_ms(agent, asked),
            lambda: figure(spawner("each", RUNS)) / 1e6,
        )
        yield Row(
            name=f"p50 of `true` against posix_spawn of {shell} in C",
            ours=alone,
            limit=alone_c,
            unit="ms",
            goal=at_most(1.6),
        )

        def two_spawners() -> float:
            both = [spawner("for", DURATION_S) for _ in range(SPAWNERS)]
            return sum(map(figure, both)) / DURATION_S

        many, many_c = interleaved(
            bench.rounds,
            lambda: throughput(agent.port, asked, CLIENTS, DURATION_S),
            two_spawners,
        )
        yield Row(
            name=f"{CLIENTS} clients against {SPAWNERS} spawners in C",
            ours=many,
            limit=many_c,
            unit="runs/s",
            goal=at_least(0.6),
        )


def execute_request(agent: Agent, command: str, **headers: str) -> bytes:
    """Return the request that runs a command."""
    body = json.dumps({"command": command}).encode()
    kind = {"Content-Type": "application/json"}
    return request(
        agent.port, "POST", "/process/execute", {**agent.auth, **kind, **headers}, body
    )


def median_ms(agent: Agent, asked: bytes) -> float:
    """Return the median time of one request after the other on one connection."""
    took_s: list[float] = []
    with Connection(agent.port) as connection:
        for _ in range(WARM_UP_RUNS):
            connection.ask(asked)
        for _ in range(RUNS):
            started = time.perf_counter()
            connection.ask(asked)
            took_s.append(time.perf_counter() - started)
    return statistics.median(took_s) * 1000


CASES = (
    Case(
        name="execute",
        about="`true` by one client and by 64, against C",
        run=execute,
        needs=("gcc",),
    ),
)
