"""Listing large directories, against `ls -laU`."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from tests.bench.clients import fetch, request
from tests.bench.measure import Bench, Case, Row, at_most, interleaved, seconds
from tests.support.agent import Agent

SIZES = (10_000, 100_000)


def listing(bench: Bench) -> Iterator[Row]:
    """Measure listings of many entries."""
    for count in SIZES:
        yield listing_of(bench, count)


def listing_of(bench: Bench, count: int) -> Row:
    """Measure a listing of `count` entries."""
    directory = filled(bench.directory(), count)
    with bench.agent() as agent:
        found, limit = interleaved(
            bench.rounds,
            lambda: listed_ms(agent, directory),
            lambda: ls_ms(directory),
        )
    return Row(
        name=f"list of {count} entries against ls -laU",
        ours=found,
        limit=limit,
        unit="ms",
        goal=at_most(0.9),
    )


def filled(directory: Path, count: int) -> Path:
    """Fill a directory with empty files."""
    for number in range(count):
        (directory / f"entry-{number:06}.txt").touch()
    return directory


def list_request(agent: Agent, path: Path) -> bytes:
    """Return the request that lists a directory."""
    target = f"/files?path={quote(str(path))}"
    return request(agent.port, "GET", target, {**agent.auth, "Connection": "close"})


def listed_ms(agent: Agent, path: Path) -> float:
    """Return how long the agent takes to list a directory."""
    asked = list_request(agent, path)
    return seconds(lambda: fetch(agent.port, asked)) * 1000


def ls_ms(path: Path) -> float:
    """Return how long ls takes to list a directory."""
    words = ["ls", "-laU", str(path)]
    run = lambda: subprocess.run(words, stdout=subprocess.PIPE, check=True)  # noqa: E731
    return seconds(run) * 1000


CASES = (
    Case(name="list", about="10 k and 100 k entries against `ls -laU`", run=listing),
)
