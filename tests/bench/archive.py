"""Archives of a directory, against `tar | zstd`."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from tests.bench.clients import fetch, request
from tests.bench.measure import MIB, Bench, Case, Row, at_most, interleaved, seconds
from tests.support.agent import Agent

FILES = 4_000
LARGE_MIB = 128
GOAL = 1.15
"""One thread reads and frames while zstd's own compresses, as in the pipe."""


def archive(bench: Bench) -> Iterator[Row]:
    """Measure archives of many small files and of a large one."""
    for name, directory in (
        (f"{FILES} small files", small_files(bench.directory())),
        (f"a file of {LARGE_MIB} MiB", large_file(bench.directory())),
    ):
        yield archive_of(bench, name, directory)


def archive_of(bench: Bench, name: str, directory: Path) -> Row:
    """Measure archives of one directory."""
    with bench.agent() as agent:
        found, limit = interleaved(
            bench.rounds,
            lambda: packed_ms(agent, directory),
            lambda: piped_ms(directory),
        )
    return Row(
        name=f"archive of {name} against tar | zstd",
        ours=found,
        limit=limit,
        unit="ms",
        goal=at_most(GOAL),
    )


def small_files(directory: Path) -> Path:
    """Fill a directory with files that compress as source does."""
    words = [f"word{number} " for number in range(2000)]
    chance = random.Random(1)
    for number in range(FILES):
        below = directory / f"d{number % 40}"
        below.mkdir(exist_ok=True)
        (below / f"f{number}").write_text("".join(chance.choices(words, k=400)))
    return directory


def large_file(directory: Path) -> Path:
    """Make one file, half of it noise."""
    with (directory / "large").open("wb") as file:
        for _ in range(LARGE_MIB):
            file.write(os.urandom(MIB // 2) + b"line of text\n" * (MIB // 26))
    return directory


def packed_ms(agent: Agent, path: Path) -> float:
    """Return how long the agent takes to pack a directory."""
    target = f"/files/archive?format=tar.zst&path={quote(str(path))}"
    asked = request(agent.port, "GET", target, {**agent.auth, "Connection": "close"})
    return seconds(lambda: fetch(agent.port, asked)) * 1000


def piped_ms(path: Path) -> float:
    """Return how long the programs take."""

    def run() -> None:
        tar = subprocess.Popen(["tar", "-cC", path, "."], stdout=subprocess.PIPE)
        with tar:
            subprocess.run(
                ["zstd", "-q", "-c"],
                stdin=tar.stdout,
                stdout=subprocess.DEVNULL,
                check=True,
            )

    return seconds(run) * 1000


CASES = (
    Case(
        name="archive",
        about="archives against tar | zstd",
        run=archive,
        needs=("tar", "zstd"),
    ),
)
