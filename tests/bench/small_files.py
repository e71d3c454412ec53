"""Many small files in one download, against tar."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench.clients import fetch, request
from tests.bench.measure import Bench, Case, Row, at_most, interleaved, seconds
from tests.support.agent import Agent

COUNT = 10_000
CONTENT = b"x" * 1000


def small_files(bench: Bench) -> Iterator[Row]:
    """Measure a bulk download; no paper names its goal, so this one is ours."""
    directory = bench.directory()
    paths = [directory / f"file-{number:05}.txt" for number in range(COUNT)]
    for path in paths:
        path.write_bytes(CONTENT)
    with bench.agent() as agent:
        asked = bulk_request(agent, paths)
        found, limit = interleaved(
            bench.rounds,
            lambda: seconds(lambda: fetch(agent.port, asked)) * 1000,
            lambda: tar_ms(directory),
        )
    yield Row(
        name=f"{COUNT} files of 1 kB in one bulk download against tar",
        ours=found,
        limit=limit,
        unit="ms",
        goal=at_most(3),
    )


def bulk_request(agent: Agent, paths: list[Path]) -> bytes:
    """Return the request that downloads files together."""
    body = json.dumps({"paths": [str(path) for path in paths]}).encode()
    headers = {**agent.auth, "Connection": "close"}
    return request(agent.port, "POST", "/files/bulk-download", headers, body)


def tar_ms(directory: Path) -> float:
    """Return how long tar takes to put a directory into a stream."""
    words = ["tar", "-cf", "-", "-C", str(directory), "."]
    return (
        seconds(lambda: subprocess.run(words, stdout=subprocess.PIPE, check=True))
        * 1000
    )


CASES = (Case(name="bulk", about="10 k small files in one download", run=small_files),)
