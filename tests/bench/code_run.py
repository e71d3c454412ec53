"""Running code, against the interpreter alone with the code on its standard input."""

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.bench.clients import Connection, request
from tests.bench.measure import Bench, Case, Row, at_most, interleaved
from tests.clients.environments import NODE
from tests.support.agent import Agent, environment

RUNS = 40
WARM_UP_RUNS = 3

DRAWING = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n"
SHOWN = DRAWING + "plt.show()\n"
SAVED = DRAWING + (
    "plt.savefig('bench.png', bbox_inches='tight', dpi=100)\nplt.show()\n"
)


def code_run(bench: Bench) -> Iterator[Row]:
    """Measure the emptiest program, and one that shows a figure."""
    with bench.agent() as agent:
        for name, language, words, ours, limit, goal in (
            ("`pass` in Python", "python", ("python3", "-u", "-"), "pass", "pass", 1.5),
            ("`1` in JavaScript", "javascript", (str(NODE), "-"), "1", "1", 1.3),
            ("a figure", "python", ("python3", "-u", "-"), SHOWN, SAVED, 1.3),
        ):
            runs = RUNS if ours != SHOWN else RUNS // 8
            took, alone = interleaved(
                bench.rounds,
                partial(asked_ms, agent, code_request(agent, ours, language), runs),
                partial(alone_ms, words, limit, runs, bench.directory()),
            )
            yield Row(
                name=f"p50 of {name} against `{words[0].rpartition('/')[2]}` alone",
                ours=took,
                limit=alone,
                unit="ms",
                goal=at_most(goal),
            )


def code_request(agent: Agent, code: str, language: str) -> bytes:
    """Return the request that runs code; JavaScript with the test's own node."""
    path = f"{NODE.parent}:{environment()['PATH']}"
    body = {"code": code, "language": language, "envs": {"PATH": path}}
    return request(
        agent.port, "POST", "/process/code-run", agent.auth, json.dumps(body).encode()
    )


def asked_ms(agent: Agent, asked: bytes, runs: int) -> float:
    """Return the median time of one request after the other on one connection."""
    with Connection(agent.port) as connection:
        return median_ms(lambda: connection.ask(asked), runs)


def alone_ms(words: tuple[str, ...], code: str, runs: int, directory: Path) -> float:
    """Return the median time of the interpreter, with its output in a pipe too."""

    def run() -> object:
        return subprocess.run(
            words,
            input=code.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
            check=True,
            cwd=directory,
        )

    return median_ms(run, runs)


def median_ms(run: Callable[[], object], runs: int) -> float:
    """Return the median time of a call."""
    took_s: list[float] = []
    for number in range(WARM_UP_RUNS + runs):
        started = time.perf_counter()
        run()
        if number >= WARM_UP_RUNS:
            took_s.append(time.perf_counter() - started)
    return statistics.median(took_s) * 1000


CASES = (
    Case(
        name="code-run",
        about="the emptiest code and a figure, against the interpreter alone",
        run=code_run,
    ),
)
